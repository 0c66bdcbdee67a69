"""A tree of images with one folder per label (the layout known as ImageFolder)."""

from __future__ import annotations

import os
import pathlib

from ._errors import InvalidInput
from ._inputs import Example

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".npy", ".png", ".webp")


def folder_examples(path: str | os.PathLike[str]) -> list[Example]:
    """Return the image files in sorted order.

    A file's label is the name of the folder directly below `path` that it is in, at any depth. Other files and hidden
    ones are left out.

    Raises:
        InvalidInput: there is no such folder, or no image in it.
    """
    root = pathlib.Path(path)
    if root.is_file():
        raise InvalidInput(f"{root}: a file; a folder with one folder per label is expected, or a label for the file")
    try:
        folders = sorted(entry for entry in root.iterdir() if entry.is_dir() and not _hidden(entry.name))
    except OSError as error:
        raise InvalidInput(f"{root}: {error.strerror}") from error
    found = [Example(folder.name, file) for folder in folders for file in _files(folder)]
    if not found:
        raise InvalidInput(
            f"{root}: no folder with images; one for each label, with {', '.join(SUFFIXES)} files, is expected"
        )
    return found


def _files(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(
        pathlib.Path(parent, name)
        for parent, _, names in os.walk(folder)
        for name in names
        if name.lower().endswith(SUFFIXES) and not _hidden(name)
    )


def _hidden(name: str) -> bool:
    return name.startswith(".")
