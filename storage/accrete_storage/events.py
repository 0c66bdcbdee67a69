"""The capped stream of what the learner does, which servers, dashboards and callers of Watch follow."""

import json
from dataclasses import dataclass
from typing import Any

from accrete_storage.redis.database import Database, reachable
from accrete_storage.redis.keys import Keys

MAX_EVENTS = 10_000
"""About how many are kept, the newest; the scripts have the same number."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredEvent:
    """One event."""

    id: str
    time_ms: int
    kind: str
    body: dict[str, Any]


class EventLog:
    """The stream of events."""

    def __init__(self, database: Database, keys: Keys) -> None:
        self._database = database
        self._keys = keys

    def append(self, kind: str, body: dict[str, Any]) -> str:
        """Add an event, and return its id."""
        with reachable():
            fields = {"k": kind, "b": json.dumps(body)}
            identifier: bytes = self._database.client.xadd(
                self._keys.events, fields, maxlen=MAX_EVENTS, approximate=True
            )
        return identifier.decode()

    def read(self, after: str, block_ms: int | None = None, count: int = 100) -> list[StoredEvent]:
        """Return events after an id, oldest first.

        Args:
            after: the id; "0" begins with the oldest that is kept.
            block_ms: milliseconds to wait for an event, fewer than the store's timeout; None does not wait.
            count: most events to return.

        Raises:
            StoreUnavailable: the store does not answer, also when `block_ms` is longer than its timeout.
        """
        with reachable():
            answer = self._database.client.xread({self._keys.events: after}, count=count, block=block_ms)
        return [_event(identifier, fields) for _, entries in answer or [] for identifier, fields in entries]

    def last_id(self) -> str:
        """Return the newest event's id, "0" when there is none."""
        with reachable():
            entries = self._database.client.xrevrange(self._keys.events, count=1)
        return entries[0][0].decode() if entries else "0"


def _event(identifier: bytes, fields: dict[bytes, bytes]) -> StoredEvent:
    text = identifier.decode()
    return StoredEvent(
        id=text, time_ms=int(text.partition("-")[0]), kind=fields[b"k"].decode(), body=json.loads(fields[b"b"])
    )
