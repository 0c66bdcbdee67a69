"""What is asked of deep steps, and what is known of the last one."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from accrete_storage.redis.database import Database, reachable
from accrete_storage.redis.keys import Keys

_REQUEST, _TEXT, _LAST = "deep_request", "deep", "deep_last"


@dataclass(frozen=True, kw_only=True, slots=True)
class LastDeepStep:
    """What the last deep step that came to its end was made of, whatever became of it."""

    examples: int = 0
    classes: int = 0


class DeepSteps:
    """Requests for deep steps, and how far one is."""

    def __init__(self, database: Database, keys: Keys) -> None:
        self._database = database
        self._keys = keys

    def request(self) -> None:
        """Ask for a deep step."""
        self._set({_REQUEST: "1"})

    def take_request(self) -> bool:
        """Return whether one was asked for since the last call."""
        with self._database.transaction() as pipeline:
            pipeline.hget(self._keys.state, _REQUEST)
            pipeline.hdel(self._keys.state, _REQUEST)
            asked, _ = pipeline.execute()
        return asked is not None

    def tell(self, text: str, last: LastDeepStep | None = None) -> None:
        """Say how far a deep step is, or what became of it.

        Args:
            text: for people.
            last: what it was made of, when it has come to its end.
        """
        fields = {_TEXT: text}
        if last is not None:
            fields[_LAST] = json.dumps({"examples": last.examples, "classes": last.classes})
        self._set(fields)

    def text(self) -> str:
        """Return what was told last, "" when nothing was."""
        with reachable():
            value: bytes | None = self._database.client.hget(self._keys.state, _TEXT)
        return (value or b"").decode()

    def last(self) -> LastDeepStep:
        """Return what the last one that came to its end was made of."""
        with reachable():
            value: bytes | None = self._database.client.hget(self._keys.state, _LAST)
        found: dict[str, Any] = json.loads(value or b"{}")
        return LastDeepStep(examples=int(found.get("examples", 0)), classes=int(found.get("classes", 0)))

    def _set(self, fields: Mapping[str, str]) -> None:
        with self._database.transaction() as pipeline:
            pipeline.hset(self._keys.state, mapping=dict(fields))
            pipeline.execute()
