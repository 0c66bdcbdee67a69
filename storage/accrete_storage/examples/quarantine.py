"""What an operator does about examples that are set aside: after failed or rejected steps, or until approved."""

import json

from accrete_storage.errors import CorruptRecord, NotFound
from accrete_storage.examples.example import unpack
from accrete_storage.redis.database import Database, reachable
from accrete_storage.redis.keys import Keys

_AT_ONCE = 1000
"""Examples that one script removes: an instant's work, so that others need not wait."""


class Quarantine:
    """Approve, retry or drop, label by label."""

    def __init__(self, database: Database, keys: Keys) -> None:
        self._database = database
        self._keys = keys

    def approve(self, label: str) -> int:
        """Let a new label be learned; answers how many examples are pending. Raises NotFound."""
        return self._release(label, "label awaiting approval", awaiting=True)

    def retry(self, label: str) -> int:
        """Let a label's examples start steps again; answers how many are pending. Raises NotFound."""
        return self._release(label, "label set aside after failed steps", awaiting=False)

    def drop(self, label: str) -> int:
        """Remove the examples of a label that are pending now; answers how many. Raises NotFound.

        Their ids count as unseen. It is set aside until all are gone, so that what a kill interrupts can be done again;
        one that awaits approval goes on to do so if more have come meanwhile.
        """
        hold = self._hold(label)
        if hold is None:
            raise NotFound("label set aside", label)
        with reachable():
            last = self._database.client.xrevrange(self._keys.pending(label), count=1)
        dropped = 0
        while last and (dropped_now := self._drop_some(label, last[0][0])):
            dropped += dropped_now
        self._end(label, hold, only_empty=_awaits(hold))
        self._database.rewrite_log()
        return dropped

    def _release(self, label: str, kind: str, *, awaiting: bool) -> int:
        while (hold := self._hold(label)) is not None and _awaits(hold) == awaiting:
            pending = self._end(label, hold, only_empty=False)
            if pending >= 0:
                return pending
        raise NotFound(kind, label)

    def _hold(self, label: str) -> bytes | None:
        with reachable():
            found: bytes | None = self._database.client.hget(self._keys.holds, label)
        return found

    def _end(self, label: str, hold: bytes, *, only_empty: bool) -> int:
        """Pending examples; -1 when the hold is another by now, or stays since there are some."""
        keys = [self._keys.holds, self._keys.pending(label)]
        return int(self._database.call("release", keys, [label, hold, int(only_empty)]))

    def _drop_some(self, label: str, upto: bytes) -> int:
        keys = self._keys
        stream = keys.pending(label)
        with reachable():
            entries = self._database.client.xrange(stream, max=upto, count=_AT_ONCE)
        names = [keys.state, *keys.counted, stream]
        names += [keys.seen(_id(fields[b"e"])) for _, fields in entries]
        return int(self._database.call("drop", names, [label, *(position for position, _ in entries)]))


def _id(record: bytes) -> str:
    """Of an example; "", which is no example's, where the record cannot be read, which may be why its steps fail."""
    try:
        return unpack(record).id
    except CorruptRecord:
        return ""


def _awaits(hold: bytes) -> bool:
    return bool(json.loads(hold).get("awaiting"))
