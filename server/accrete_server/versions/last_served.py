"""What this server last served, in `active.json`, for a start without the store."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from accrete_kit.atomic_file import write_json

NAME = "active.json"
SCHEMA = 1

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class LastServed:
    """A version that was live, which labels are masked in it, and what its rows were called."""

    version: int
    digest: str
    masked: tuple[str, ...] = ()
    revision: int = 0
    labels: tuple[str, ...] = ()
    """See `View.labels`; an earlier release wrote none."""


def write_last_served(data_dir: Path, served: Sequence[LastServed]) -> None:
    """Write what is served and what was before it, newest first and one at least, atomically and durably.

    Raises:
        OSError: it cannot be written.
    """
    newest, *before = map(asdict, served)
    write_json(data_dir / NAME, {"schema": SCHEMA, **newest, "before": before})


def read_last_served(data_dir: Path) -> tuple[LastServed, ...]:
    """Return what was written last, nothing when there is nothing.

    What cannot be read is logged and counts as nothing.
    """
    try:
        newest = json.loads((data_dir / NAME).read_text("utf-8"))
        if newest["schema"] != SCHEMA:
            raise ValueError(f"schema {newest['schema']}")
        return tuple(map(_parse, (newest, *newest.get("before", ()))))  # earlier releases kept the newest alone
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, KeyError, TypeError) as error:
        _log.warning("last_served.unreadable", extra={"file": NAME, "reason": str(error)})
        return ()


def _parse(fields: Mapping[str, Any]) -> LastServed:
    return LastServed(
        version=int(fields["version"]),
        digest=str(fields["digest"]),
        masked=tuple(str(label) for label in fields["masked"]),
        revision=int(fields["revision"]),
        labels=tuple(str(label) for label in fields.get("labels", ())),
    )
