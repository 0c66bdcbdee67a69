"""active.json: what this server last served, for a start without the store."""

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
class Remembered:
    """The live version and which labels were masked in it."""

    version: int
    digest: str
    masked: tuple[str, ...] = ()
    revision: int = 0


def remember(data_dir: Path, state: Remembered) -> None:
    """Write `state` whole or not at all. Raises OSError."""
    write_json(data_dir / NAME, {"schema": SCHEMA, **asdict(state)})


def recall(data_dir: Path) -> Remembered | None:
    """What was remembered last; None when there is nothing, or nothing that can be read (which is logged)."""
    try:
        fields = json.loads((data_dir / NAME).read_text())
        if fields["schema"] != SCHEMA:
            raise ValueError(f"schema {fields['schema']}")
        return Remembered(
            version=int(fields["version"]),
            digest=str(fields["digest"]),
            masked=tuple(str(label) for label in fields["masked"]),
            revision=int(fields["revision"]),
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as problem:
        _log.warning("remembered_state_unreadable", extra={"file": NAME, "reason": str(problem)})
        return None
