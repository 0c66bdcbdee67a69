"""Errors as people read them."""

from __future__ import annotations

import os


def plain(error: BaseException) -> str:
    """Return what is wrong: of an error of the operating system the file and the reason, without its number."""
    if not isinstance(error, OSError) or error.errno is None or not error.strerror:
        return str(error)
    return f"{os.fsdecode(error.filename)}: {error.strerror}" if error.filename is not None else error.strerror
