"""One line an event: its name is the message, the rest are fields."""

from __future__ import annotations


def fields(**values: object) -> dict[str, object]:
    """What a log call takes as `extra`; a name that logging uses itself is refused by it with KeyError."""
    return values
