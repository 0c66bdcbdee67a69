"""What this server last served, in `active.json`, for a start without the store."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path

from accrete_kit.atomic_file import write_json

NAME = "active.json"
SCHEMA = 1

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class LastServed:
    """The live version and which labels were masked in it."""

    version: int
    digest: str
    masked: tuple[str, ...] = ()
    revision: int = 0


def write_last_served(data_dir: Path, served: LastServed) -> None:
    """Write what is served, atomically and durably.

    Raises:
        OSError: it cannot be written.
    """
    write_json(data_dir / NAME, {"schema": SCHEMA, **asdict(served)})


def read_last_served(data_dir: Path) -> LastServed | None:
    """Return what was written last, or None when there is nothing.

    What cannot be read is logged and counts as nothing.
    """
    try:
        fields = json.loads((data_dir / NAME).read_text("utf-8"))
        if fields["schema"] != SCHEMA:
            raise ValueError(f"schema {fields['schema']}")
        return LastServed(
            version=int(fields["version"]),
            digest=str(fields["digest"]),
            masked=tuple(str(label) for label in fields["masked"]),
            revision=int(fields["revision"]),
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        _log.warning("last_served.unreadable", extra={"file": NAME, "reason": str(error)})
        return None
