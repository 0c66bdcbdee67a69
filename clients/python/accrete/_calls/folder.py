"""Trees of images with one folder per label (the layout known as ImageFolder), and tables of files and labels."""

from __future__ import annotations

import codecs
import csv
import io
import os
import pathlib
import unicodedata
from collections import Counter
from dataclasses import dataclass, field

from .._errors import InvalidInput
from .._inputs import Example

SUFFIXES = (".avif", ".bmp", ".heic", ".heif", ".jfif", ".jpe", ".jpeg", ".jpg", ".npy", ".png", ".webp")
"""Of files that are sent; whether AVIF and HEIC are read is the server's to say."""

_OTHER_IMAGES = frozenset(
    [
        ".arw",
        ".cr2",
        ".cr3",
        ".dng",
        ".exr",
        ".gif",
        ".hdr",
        ".ico",
        ".j2k",
        ".jp2",
        ".jpx",
        ".jxl",
        ".jxr",
        ".nef",
        ".orf",
        ".pbm",
        ".pcx",
        ".pgm",
        ".pnm",
        ".ppm",
        ".psd",
        ".raf",
        ".raw",
        ".rw2",
        ".svg",
        ".tga",
        ".tif",
        ".tiff",
        ".xcf",
    ]
)
_LEFT_BY_SYSTEMS = frozenset(("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"))
_SHOWN = 5  # names in a warning
_FILE_COLUMNS = ("file", "filename", "path", "image")
_LABEL_COLUMNS = ("label", "class")
_DELIMITERS = ",;\t"
"""Excel writes semicolons where numbers have commas, and tabs as "Unicode text"."""


@dataclass(slots=True)
class FoundImages:
    """The images that were found, and what was not taken for one."""

    examples: list[Example] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    """How many files or folders were passed over, by reason."""
    warnings: list[str] = field(default_factory=list)
    """What may be meant otherwise, for people."""

    @property
    def labels(self) -> dict[str, int]:
        """How many images each label has."""
        return dict(sorted(Counter(example.label for example in self.examples).items()))


def find_images(path: str | os.PathLike[str]) -> FoundImages:
    """Find the image files of a tree, in sorted order.

    A file's label is the name of the folder directly below `path` that it is in, at any depth, in Unicode's normal form
    C. Hidden files and folders and what is no image are counted.

    Raises:
        InvalidInput: there is no such folder, or no image in it.
    """
    root = pathlib.Path(path)
    if root.is_file():
        raise InvalidInput(f"{root}: a file; a folder with one folder per label is expected, or a label for the file")
    try:
        entries = sorted(root.iterdir())
        folders = [entry for entry in entries if entry.is_dir()]
    except OSError as error:
        raise InvalidInput(f"{root}: {error.strerror}") from error
    found = FoundImages()
    nested, renamed = list[str](), list[str]()
    for folder in folders:
        if _is_hidden(folder.name):
            found.skipped["hidden folder"] += 1
            continue
        label = _label(folder.name)
        if label != folder.name:
            renamed.append(label)
        nested += _add_folder(found, folder, label)
    for entry in entries:
        if entry not in folders:
            reason = _reason(entry.name) or f"image directly in {root.name or root}, in no folder that names its label"
            found.skipped[reason] += 1
    if nested:
        labels = ", ".join(dict.fromkeys(path.partition(os.sep)[0] for path in nested[:_SHOWN]))
        found.warnings.append(
            f"{len(nested)} folders with images stand within the label folders of {root} ({_some(nested)}): their "
            f"images get the first level's name as their label ({labels}); to make them labels, add the folder above"
        )
    if renamed:
        found.warnings.append(f"{len(renamed)} folder names were brought into Unicode's form NFC ({_some(renamed)})")
    if not found.examples:
        passed_over = f"; passed over: {told(found.skipped)}" if found.skipped else ""
        raise InvalidInput(
            f"{root}: no folder with images; one for each label, with {', '.join(SUFFIXES)} files, is "
            f"expected{passed_over}"
        )
    return found


def read_table(table: str | os.PathLike[str], root: str | os.PathLike[str] | None = None) -> FoundImages:
    """Read files and labels from a CSV file.

    Its first line names the columns, of which `file` (or `filename`, `path`, `image`) and `label` (or `class`) count;
    without such names the first column is the file and the second its label.

    Args:
        table: the CSV file, with commas, semicolons or tabs, in UTF-8 or what Excel calls Unicode text.
        root: the folder that the files are named from; None: the table's.

    Raises:
        InvalidInput: it cannot be read, or a line has no file or no label.
    """
    path = pathlib.Path(table)
    base = path.parent if root is None else pathlib.Path(root)
    try:
        rows = _rows(path.read_bytes())
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidInput(f"{path}: no CSV file in UTF-8: {error}") from error
    columns = _columns(rows[0][1]) if rows else None
    file_at, label_at = columns or (0, 1)
    found = FoundImages()
    for line, row in rows[1 if columns else 0 :]:
        if len(row) <= max(file_at, label_at) or not row[file_at] or not row[label_at]:
            raise InvalidInput(f"{path}, line {line}: a file and its label are expected")
        found.examples.append(Example(row[label_at], base / row[file_at]))
    if not found.examples:
        raise InvalidInput(f"{path}: no line with a file and its label")
    return found


def _rows(content: bytes) -> list[tuple[int, list[str]]]:
    """Return the rows of a CSV file, each with the line that it ends on, by the delimiter that its first line has.

    Raises:
        UnicodeDecodeError, csv.Error: it is none.
    """
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = content.decode("utf-16" if wide else "utf-8-sig")

    def read(delimiter: str) -> list[tuple[int, list[str]]]:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        return [(reader.line_num, row) for row in reader if any(row)]

    found = [read(delimiter) for delimiter in _DELIMITERS]
    named = [rows for rows in found if rows and _columns(rows[0][1])]
    several = [rows for rows in found if rows and len(rows[0][1]) > 1]
    return next(iter([*named, *several, *found]))


def _columns(row: list[str]) -> tuple[int, int] | None:
    """Return where files and labels stand, by a first row that names columns; None for another row."""
    names = [name.strip().lower() for name in row]
    file_at = next((names.index(name) for name in _FILE_COLUMNS if name in names), None)
    label_at = next((names.index(name) for name in _LABEL_COLUMNS if name in names), None)
    return None if file_at is None or label_at is None else (file_at, label_at)


def told(skipped: Counter[str]) -> str:
    """Return counts by reason, most first."""
    return ", ".join(f"{count} x {reason}" for reason, count in skipped.most_common())


def _add_folder(found: FoundImages, folder: pathlib.Path, label: str) -> list[str]:
    """Add a label's images, and return the folders within it that have some."""
    nested, files = list[str](), list[pathlib.Path]()

    def unreadable(error: OSError) -> None:
        found.skipped[f"folder that cannot be read ({error.strerror})"] += 1

    for parent, folders, names in os.walk(folder, onerror=unreadable):
        hidden = [name for name in folders if _is_hidden(name)]
        links = [name for name in folders if name not in hidden and os.path.islink(os.path.join(parent, name))]
        found.skipped["hidden folder"] += len(hidden)
        found.skipped["link to a folder"] += len(links)
        folders[:] = sorted(set(folders) - {*hidden, *links})
        reasons = {name: _reason(name) for name in names}
        found.skipped.update(reason for reason in reasons.values() if reason)
        images = [pathlib.Path(parent, name) for name, reason in reasons.items() if not reason]
        files += images
        if images and pathlib.Path(parent) != folder:
            nested.append(os.path.relpath(parent, folder.parent))
    found.skipped += Counter()  # without those that are 0
    found.examples += [Example(label, file) for file in sorted(files)]
    return nested


def _reason(name: str) -> str:
    """Return why a file is passed over; "" for an image."""
    if _is_hidden(name):
        return "hidden file"
    suffix = pathlib.PurePath(name).suffix.lower()
    if suffix in SUFFIXES:
        return ""
    if suffix in _OTHER_IMAGES:
        return f"{suffix} file, a format that is not read"
    return f"{suffix} file, no image" if suffix else "file without a suffix"


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in _LEFT_BY_SYSTEMS or name in ("__MACOSX", "@eaDir")


def _label(name: str) -> str:
    """Return a folder's name as a label: UTF-8 whatever the locale says, in form NFC."""
    try:
        text = os.fsencode(name).decode()
    except UnicodeError:
        text = name
    return unicodedata.normalize("NFC", text)


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
