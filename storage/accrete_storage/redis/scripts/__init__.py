"""The Lua scripts, one per file; each checks everything first and writes last, since a script is not rolled back."""

import hashlib
from functools import cache
from importlib import resources
from typing import NamedTuple


class Script(NamedTuple):
    """A script, and the digest by which the server knows it."""

    text: str
    sha1: str


@cache
def load(name: str) -> Script:
    """Return a script with the shared functions of `common.lua` before it."""
    folder = resources.files(__name__)
    text = "".join((folder / f"{part}.lua").read_text(encoding="utf-8") for part in ("common", name))
    return Script(text=text, sha1=hashlib.sha1(text.encode()).hexdigest())
