"""Log events, whose name is the message and whose other parts are fields."""

from __future__ import annotations


def fields(**values: object) -> dict[str, object]:
    """Return what a log call takes as `extra`, which refuses a name that logging uses itself with KeyError."""
    return values
