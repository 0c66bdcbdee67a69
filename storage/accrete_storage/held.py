"""What an operator does about examples that are set aside after failed or rejected steps."""

from accrete_storage.database import Database, reachable
from accrete_storage.errors import CorruptRecord, NotFound
from accrete_storage.example import unpack
from accrete_storage.keys import Keys

_AT_ONCE = 1000
"""Examples that one script removes: an instant's work, so that others need not wait."""


class Held:
    """Retry or drop, label by label."""

    def __init__(self, database: Database, keys: Keys) -> None:
        self._database = database
        self._keys = keys

    def retry(self, label: str) -> int:
        """Let a label's examples start steps again; answers how many are pending. Raises NotFound."""
        released, pending = self._release(label)
        if not released:
            raise NotFound("label set aside", label)
        return pending

    def drop(self, label: str) -> int:
        """Remove the examples of a label that are pending now; answers how many. Raises NotFound.

        Their ids count as unseen. It is set aside until all are gone, so that what a kill interrupts can be done again.
        """
        with reachable():
            if not self._database.client.hexists(self._keys.holds, label):
                raise NotFound("label set aside", label)
            last = self._database.client.xrevrange(self._keys.pending(label), count=1)
        dropped = 0
        while last and (dropped_now := self._drop_some(label, last[0][0])):
            dropped += dropped_now
        self._release(label)
        return dropped

    def _release(self, label: str) -> tuple[bool, int]:
        """Whether it was set aside, and its pending examples."""
        with self._database.transaction() as pipeline:
            pipeline.hdel(self._keys.holds, label)
            pipeline.xlen(self._keys.pending(label))
            released, pending = pipeline.execute()
        return bool(released), int(pending)

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
