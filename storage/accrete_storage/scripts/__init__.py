"""The Lua scripts, one a file: each checks everything first and writes last, since a script is not rolled back."""

from functools import cache
from importlib import resources


@cache
def source(name: str) -> str:
    """The text of a script, the shared functions of `common.lua` before it."""
    folder = resources.files(__name__)
    return "".join((folder / f"{part}.lua").read_text(encoding="utf-8") for part in ("common", name))
