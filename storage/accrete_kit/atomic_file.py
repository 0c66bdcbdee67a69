"""Files that are written whole or not at all."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_bytes(path: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Write a file whole or not at all, and durably.

    A temporary file beside it is written, brought to disk and renamed, and then the folder is brought to disk.

    Args:
        path: to write; what stands there is replaced.
        content: of the file.
        mode: permissions, less those that the umask takes away.

    Raises:
        OSError: when it cannot be written; `path` is then as it was.
    """
    # Of several machines that share a folder, or containers, each of which has a process 1, each has a file of its own.
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def write_text(path: Path, text: str, *, mode: int = 0o666) -> None:
    """Write UTF-8 text as `write_bytes` does."""
    write_bytes(path, text.encode(), mode=mode)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object as `write_bytes` does."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=1))


def sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to disk.

    Raises:
        OSError: when it cannot be opened or synced.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
