"""Settings that had another name in an earlier release, which is still read with a warning."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

RENAMED: dict[str, str] = {
    "server.max_batch": "server.max_examples",
    "server.teaching": "server.teaching_concurrency",
}
"""By the old SECTION.FIELD, the new one."""


def with_current_names(values: Mapping[str, Any], *, source: str) -> dict[str, Any]:
    """Return the values of one source with each old name replaced by the new one, and warn of it on standard error.

    Args:
        values: nested by section and field, as a settings file is.
        source: where they are from, for the warning.

    Raises:
        ValueError: both names are given.
    """
    current = {name: dict(value) if isinstance(value, Mapping) else value for name, value in values.items()}
    for old, new in RENAMED.items():
        (section, name), (new_section, new_name) = old.split("."), new.split(".")
        given = current.get(section)
        if not isinstance(given, dict) or name not in given:
            continue
        renamed = current.setdefault(new_section, {})
        if new_name in renamed:
            raise ValueError(f"{old} is the old name of {new}: set {new} alone")
        renamed[new_name] = given.pop(name)
        print(f"accrete: warning: {old} ({source}) is now {new}; the old name is still read", file=sys.stderr)
    return current
