"""What the learner does, as a capped stream that servers, dashboards and callers of Watch follow."""

import json
from dataclasses import dataclass
from typing import Any

from accrete_storage.redis.database import Database, reachable
from accrete_storage.redis.keys import Keys

MAX_EVENTS = 10_000
"""Kept, roughly; older ones go. The scripts hold the same number."""


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
        """Add an event; answers its id."""
        with reachable():
            fields = {"k": kind, "b": json.dumps(body)}
            identifier: bytes = self._database.client.xadd(
                self._keys.events, fields, maxlen=MAX_EVENTS, approximate=True
            )
        return identifier.decode()

    def read(self, after: str, block_ms: int | None = None, count: int = 100) -> list[StoredEvent]:
        """Events after the id `after` ("0": from the oldest kept), oldest first; waits up to `block_ms` for one.

        `block_ms` must stay below the store's timeout, which ends the wait as StoreUnavailable.
        """
        with reachable():
            answer = self._database.client.xread({self._keys.events: after}, count=count, block=block_ms)
        return [_event(identifier, fields) for _, entries in answer or [] for identifier, fields in entries]

    def last_id(self) -> str:
        """The newest event's id; "0" when there is none."""
        with reachable():
            entries = self._database.client.xrevrange(self._keys.events, count=1)
        return entries[0][0].decode() if entries else "0"


def _event(identifier: bytes, fields: dict[bytes, bytes]) -> StoredEvent:
    text = identifier.decode()
    return StoredEvent(
        id=text, time_ms=int(text.partition("-")[0]), kind=fields[b"k"].decode(), body=json.loads(fields[b"b"])
    )
