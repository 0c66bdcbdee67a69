"""The exemplar memory and the hold-out, each a list per label; exemplars in rank order, so that shrinking is a trim."""

import time
from dataclasses import dataclass

from accrete_storage.examples.example import Example, unpack
from accrete_storage.redis.database import Database, reachable
from accrete_storage.redis.keys import Keys


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryCount:
    """What is kept of a label."""

    exemplars: int
    holdout: int


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryTotal:
    """What is kept of all labels."""

    exemplars: int
    exemplar_bytes: int
    holdout: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Counted:
    total: MemoryTotal
    at: tuple[bytes | None, ...]
    """The newest version and the revision."""
    until_s: float


#: Seconds for which a total is taken to be right at most.
_COUNTED_S = 10.0


class ExemplarMemory:
    """Reads the memory, which only a step's commit and the operator's deletions write."""

    def __init__(self, database: Database, keys: Keys) -> None:
        self._database = database
        self._keys = keys
        self._counted: _Counted | None = None

    def exemplars(self, label: str) -> list[Example]:
        """Return a label's exemplars, best first."""
        return self._list(label, self._keys.exemplars(label))

    def holdout(self, label: str, limit: int | None = None) -> list[Example]:
        """Return a label's hold-out, or the first `limit` of it."""
        return self._list(label, self._keys.holdout(label), limit)

    def labels(self) -> list[str]:
        """Return the labels of which something is kept, sorted."""
        with reachable():
            return sorted(label.decode() for label in self._database.client.smembers(self._keys.kept))

    def counts(self) -> dict[str, MemoryCount]:
        """Return the counts of each label of which something is kept."""
        labels = self.labels()
        with self._database.transaction() as pipeline:
            for label in labels:
                pipeline.llen(self._keys.exemplars(label))
                pipeline.llen(self._keys.holdout(label))
            lengths = pipeline.execute()
        pairs = zip(labels, lengths[::2], lengths[1::2], strict=True)
        return {label: MemoryCount(exemplars=exemplars, holdout=holdout) for label, exemplars, holdout in pairs}

    def total(self) -> MemoryTotal:
        """Return what is kept of all labels.

        It is asked for each second, and with ten thousand labels counted by twenty thousand questions. So it is counted
        again once the newest version or the revision is another.
        """
        with reachable():
            at = tuple(self._database.client.hmget(self._keys.state, "latest", "revision"))
        counted, now_s = self._counted, time.monotonic()
        if counted is None or counted.at != at or now_s > counted.until_s:
            counts = self.counts().values()
            total = MemoryTotal(
                exemplars=sum(count.exemplars for count in counts),
                exemplar_bytes=self.exemplar_bytes(),
                holdout=sum(count.holdout for count in counts),
            )
            counted = self._counted = _Counted(total=total, at=at, until_s=now_s + _COUNTED_S)
        return counted.total

    def exemplar_bytes(self) -> int:
        """Return the bytes of all exemplars' records."""
        with reachable():
            return sum(map(int, self._database.client.hvals(self._keys.exemplar_bytes)))

    def _list(self, label: str, key: str, limit: int | None = None) -> list[Example]:
        with reachable():
            records = self._database.client.lrange(key, 0, -1 if limit is None else limit - 1)
        return [unpack(record, label) for record in records]
