"""The append-only file of the embedded store, as a loss of power may leave it.

Blocks that a file system had given to a file, and not yet written, are zeros afterwards. The server takes half a record
at the end for what it is, but not zeros.
"""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import BinaryIO

from accrete_kit.atomic_file import write_bytes

_MANIFEST = "appendonly.aof.manifest"
_CHUNK = 1 << 20

_log = logging.getLogger(__name__)


def recover(folder: Path) -> None:
    """Bring a store's files into a form that the server loads, where nothing that was acknowledged is lost by it.

    A manifest that is empty or zeros is written anew if the files leave no doubt of it, and zeros behind the last
    record are cut off: records end with a line feed, so no zero at the end is part of a whole one.

    Args:
        folder: of the append-only file's parts; it need not exist.

    Raises:
        OSError: a file cannot be read or written.
    """
    manifest = folder / _MANIFEST
    if not manifest.is_file():
        return
    if not manifest.read_bytes().strip(b"\0\n "):
        bases, increments = sorted(folder.glob("*.base.*")), sorted(folder.glob("*.incr.aof"))
        if len(bases) == len(increments) == 1:
            lines = [_line(bases[0], "b"), _line(increments[0], "i")]
            write_bytes(manifest, "".join(lines).encode())
            _log.warning("store.manifest_recovered", extra={"file": str(manifest)})
    last = _appended_to(folder)
    if last is None or not last.is_file():
        return
    with last.open("r+b") as file:
        size = os.fstat(file.fileno()).st_size
        end = _end_without_zeros(file, size)
        if end < size:
            file.truncate(end)
            os.fsync(file.fileno())
            _log.warning("store.zeros_cut_off", extra={"file": str(last), "bytes": size - end})


def damage(folder: Path) -> str:
    """Return what is wrong with the files and what can be done, or nothing where no fault is found."""
    restore = "restore a backup into a new data directory (accrete restore BACKUP --data-dir NEW)"
    manifest = folder / _MANIFEST
    if not manifest.is_file():
        return ""
    last = _appended_to(folder)
    if last is None:
        return f"{manifest} is damaged: {restore}"
    if not last.is_file():
        return f"{last} is missing: bring it back, or {restore}"
    with last.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        position = _first_fault(file)
    if position == size:
        return ""
    return (
        f"{last} is damaged at byte {position} of {size}, and what follows cannot be read: {restore}. Without one, "
        f"put a copy there that is cut to {position} bytes, which keeps what is before and loses the rest"
    )


def _line(path: Path, kind: str) -> str:
    return f"file {path.name} seq {path.name.split('.')[2]} type {kind}\n"


def _appended_to(folder: Path) -> Path | None:
    """Return the last file that the manifest names, which is the one that is appended to."""
    text = (folder / _MANIFEST).read_text(errors="replace")
    names = re.findall(r"^file (\S+) seq \d+ type [bi]", text, re.MULTILINE)
    return folder / names[-1] if names else None


def _end_without_zeros(file: BinaryIO, size: int) -> int:
    while size:
        start = max(0, size - _CHUNK)
        file.seek(start)
        if kept := file.read(size - start).rstrip(b"\0"):
            return start + len(kept)
        size = start
    return 0


def _first_fault(file: BinaryIO) -> int:
    """Return where the first record begins that is not whole, or the file's size."""
    position = 0
    while True:
        head = file.readline()
        if not head:
            return position
        if not head.startswith(b"#"):  # a comment, with a time
            count = _number(head, b"*")
            if count is None or not all(_skip_word(file) for _ in range(count)):
                return position
        position = file.tell()


def _skip_word(file: BinaryIO) -> bool:
    length = _number(file.readline(), b"$")
    if length is None:
        return False
    file.seek(length, os.SEEK_CUR)
    return file.read(2) == b"\r\n"


def _number(line: bytes, mark: bytes) -> int | None:
    found = re.fullmatch(re.escape(mark) + rb"(\d{1,18})\r\n", line)
    return int(found[1]) if found else None
