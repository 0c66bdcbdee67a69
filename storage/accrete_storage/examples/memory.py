"""The exemplar memory and the hold-out, each a list per label; exemplars in rank order, so that shrinking is a trim."""

from dataclasses import dataclass

from accrete_storage.examples.example import Example, unpack
from accrete_storage.redis.database import Database, reachable
from accrete_storage.redis.keys import Keys


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryCount:
    """What is kept of a label."""

    exemplars: int
    holdout: int


class ExemplarMemory:
    """Reads the memory, which only a step's commit and the operator's deletions write."""

    def __init__(self, database: Database, keys: Keys) -> None:
        self._database = database
        self._keys = keys

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

    def exemplar_bytes(self) -> int:
        """Return the bytes of all exemplars' records."""
        with reachable():
            return sum(map(int, self._database.client.hvals(self._keys.exemplar_bytes)))

    def _list(self, label: str, key: str, limit: int | None = None) -> list[Example]:
        with reachable():
            records = self._database.client.lrange(key, 0, -1 if limit is None else limit - 1)
        return [unpack(record, label) for record in records]
