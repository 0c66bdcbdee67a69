"""Labels whose pending examples no step takes: after failed or rejected steps, or until an operator approves."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from accrete_storage.errors import CorruptRecord, Fenced, NotFound
from accrete_storage.examples.example import unpack
from accrete_storage.redis.database import Database, reachable
from accrete_storage.redis.keys import Keys

_AT_ONCE = 1000
"""Examples that one script removes, which takes an instant, so that others need not wait."""


@dataclass(frozen=True, kw_only=True, slots=True)
class QuarantineEntry:
    """Why a label's pending examples wait, until more come or a step is asked for, or until an approval."""

    count: int
    """Examples of the label that were pending when it went into quarantine."""
    attempts: int
    """Failed steps in a row."""
    reason: str
    awaiting: bool = False
    """Whether nothing but an operator's approval ends it."""


class Quarantine:
    """Labels in quarantine; an operator approves, retries or drops each."""

    def __init__(self, database: Database, keys: Keys) -> None:
        self._database = database
        self._keys = keys

    def entries(self) -> dict[str, QuarantineEntry]:
        """Return all entries by label."""
        with reachable():
            stored = self._database.client.hgetall(self._keys.quarantine)
        return {label.decode(): QuarantineEntry(**json.loads(value)) for label, value in stored.items()}

    def add(self, epoch: int, counts: Mapping[str, int], event: Mapping[str, Any]) -> None:
        """Put labels into quarantine after a failed step.

        Args:
            epoch: of the learner's lease.
            counts: pending examples by label.
            event: body of the event "failed", with the `reason` and, above 1, the `attempt`.

        Raises:
            Fenced: another learner holds the lease; nothing was written.
        """
        reason, attempts = str(event.get("reason", "")), int(event.get("attempt", 1))
        entries = entry_arguments(counts, reason, attempts=attempts)
        arguments = [epoch, "", 0, "", 0, "failed", json.dumps(event), *entries]
        if self._database.call("quarantine", script_keys(self._keys), arguments) == b"FENCED":
            raise Fenced(f"epoch {epoch} is over: another learner holds the lease")

    def approve(self, label: str) -> int:
        """Let a new label be learned, and return how many of its examples are pending.

        Raises:
            NotFound: it does not await approval.
        """
        return self._release(label, "label awaiting approval", awaiting=True)

    def retry(self, label: str) -> int:
        """Let a label's examples start steps again, and return how many are pending.

        Raises:
            NotFound: it is not in quarantine, or awaits approval.
        """
        return self._release(label, "label set aside after failed steps", awaiting=False)

    def drop(self, label: str) -> int:
        """Remove the examples of a label that are pending now, and return how many there were.

        Their ids count as unseen. The label stays in quarantine until all are gone, so that what a kill interrupts can
        be done again; one that awaits approval goes on to do so if more have come meanwhile.

        Raises:
            NotFound: it is not in quarantine.
        """
        entry = self._stored(label)
        if entry is None:
            raise NotFound("label set aside", label)
        with reachable():
            last = self._database.client.xrevrange(self._keys.pending(label), count=1)
        dropped = 0
        while last and (dropped_now := self._drop_some(label, last[0][0])):
            dropped += dropped_now
        self._end(label, entry, only_empty=_awaits(entry))
        self._database.rewrite_log()
        return dropped

    def _release(self, label: str, kind: str, *, awaiting: bool) -> int:
        while (entry := self._stored(label)) is not None and _awaits(entry) == awaiting:
            pending = self._end(label, entry, only_empty=False)
            if pending >= 0:
                return pending
        instead = ""
        if entry is not None:
            instead = f"it awaits approval: approve {label}" if not awaiting else f"it is set aside: retry {label}"
        raise NotFound(kind, label, instead)

    def _stored(self, label: str) -> bytes | None:
        with reachable():
            found: bytes | None = self._database.client.hget(self._keys.quarantine, label)
        return found

    def _end(self, label: str, entry: bytes, *, only_empty: bool) -> int:
        """Return how many are pending, or -1 when the entry is another by now, or stays since there are some."""
        keys = [self._keys.quarantine, self._keys.pending(label)]
        return int(self._database.call("leave_quarantine", keys, [label, entry, int(only_empty)]))

    def _drop_some(self, label: str, upto: bytes) -> int:
        keys = self._keys
        stream = keys.pending(label)
        with reachable():
            entries = self._database.client.xrange(stream, max=upto, count=_AT_ONCE)
        names = [keys.state, *keys.counted, stream]
        ids = [_id(fields[b"e"]) for _, fields in entries]
        names += map(keys.seen, ids)
        # Before the example, so that none is dropped whose image stays.
        self._database.call("inbox_remove", keys.inbox, ids)
        return int(self._database.call("drop", names, [label, *(position for position, _ in entries)]))


def script_keys(keys: Keys) -> list[str]:
    """Return the keys that the script `quarantine` expects."""
    return [keys.state, keys.versions, keys.events, keys.quarantine, keys.labels]


def entry_arguments(counts: Mapping[str, int], reason: str, *, attempts: int) -> list[str]:
    """Return each label and its entry, as the script `quarantine` expects them."""
    arguments: list[str] = []
    for label, count in counts.items():
        arguments += (label, json.dumps({"count": count, "attempts": attempts, "reason": reason}))
    return arguments


def _id(record: bytes) -> str:
    """Return the id of a stored example, or "" where the record cannot be read, which may be why its steps fail."""
    try:
        return unpack(record).id
    except CorruptRecord:
        return ""


def _awaits(entry: bytes) -> bool:
    return bool(json.loads(entry).get("awaiting"))
