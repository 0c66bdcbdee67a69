"""Files that are written whole or not at all."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_bytes(path: Path, content: bytes) -> None:
    """Write `path` whole or not at all, and for good: a temporary name beside it, fsync, rename, fsync of the folder.

    Raises:
        OSError: when it cannot be written; `path` is then as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text as `write_bytes` does."""
    write_bytes(path, text.encode())


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
