"""Examples acknowledged and not yet learned: one stream a label."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from accrete_storage.config import HoldoutConfig, StoreConfig
from accrete_storage.database import Database, reachable
from accrete_storage.errors import BudgetExceeded
from accrete_storage.example import Example, pack, unpack
from accrete_storage.ids import is_holdout
from accrete_storage.keys import Keys

_DAY_MS = 86_400_000
_RETRY_AFTER_S = 5.0
"""A step makes room, and a small one takes about this long."""


class Outcome(Enum):
    """What became of one example."""

    STORED = "S"
    DUPLICATE = "D"
    CONFLICT = "C"
    """The same id was stored with other content."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PendingCount:
    """A label's pending examples."""

    examples: int
    holdout: int
    """Of them, flagged for the hold-out."""
    oldest_ms: int
    """Arrival of the oldest, milliseconds since 1970."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PendingTotal:
    """All pending examples."""

    examples: int
    bytes: int
    oldest_ms: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class PendingEntry:
    """One pending example where it stands."""

    position: str
    holdout: bool
    example: Example


@dataclass(frozen=True, kw_only=True, slots=True)
class Location:
    """Where an example was stored: it is learned by each version whose record reaches `position` for `label`."""

    label: str
    position: str


class PendingLog:
    """The pending examples."""

    def __init__(self, database: Database, keys: Keys, config: StoreConfig, holdout: HoldoutConfig) -> None:
        self._database = database
        self._keys = keys
        self._config = config
        self._holdout = holdout

    def add(self, examples: Sequence[Example]) -> list[Outcome]:
        """Store a batch; returns, one outcome each, once it is as durable as promised.

        Raises BudgetExceeded (nothing was stored) and StoreUnavailable (what was stored is unknown; the same ids can be
        sent again).
        """
        if not examples:
            return []
        keys = self._keys
        names = [keys.labels, keys.generations, keys.totals, keys.pending_bytes, keys.pending_holdout]
        config = self._config
        arguments: list[str | bytes | int] = [
            config.pending_max_examples,
            config.pending_max_bytes,
            int(config.dedup_days * _DAY_MS),
        ]
        for example in examples:
            names += (keys.seen(example.id), keys.pending(example.label))
            flag = int(is_holdout(example.id, self._holdout.share))
            arguments += (example.label, example.digest().hex(), flag, pack(example))
        answer = [part.decode() for part in self._database.call("add", names, arguments)]
        if answer[0] == "BUDGET":
            limit = f"pending_max_{answer[1]}"
            raise BudgetExceeded(limit, getattr(config, limit), _RETRY_AFTER_S)
        return [Outcome(part) for part in answer]

    def labels(self) -> list[str]:
        """Labels with pending examples, sorted."""
        with reachable():
            return sorted(label.decode() for label in self._database.client.smembers(self._keys.labels))

    def counts(self) -> dict[str, PendingCount]:
        """Each label that has pending examples."""
        labels = self.labels()
        if not labels:
            return {}
        found = self._database.call("first", [self._keys.pending(label) for label in labels])
        with reachable():
            holdout = self._database.client.hgetall(self._keys.pending_holdout)
        return {
            label: PendingCount(
                examples=length,
                holdout=int(holdout.get(label.encode(), 0)),
                oldest_ms=int(first.partition(b"-")[0]),
            )
            for label, (length, first) in zip(labels, found, strict=True)
            if length
        }

    def total(self) -> PendingTotal:
        """All labels together."""
        oldest = [count.oldest_ms for count in self.counts().values()]
        with reachable():
            examples, size = self._database.client.hmget(self._keys.totals, "examples", "bytes")
        return PendingTotal(examples=int(examples or 0), bytes=int(size or 0), oldest_ms=min(oldest, default=None))

    def read(self, label: str, *, upto: str | None = None, limit: int | None = None) -> list[PendingEntry]:
        """A label's pending examples, oldest first, up to and with the position `upto`."""
        with reachable():
            entries = self._database.client.xrange(self._keys.pending(label), max=upto or "+", count=limit)
        return [
            PendingEntry(position=position.decode(), holdout=fields[b"h"] == b"1", example=unpack(fields[b"e"]))
            for position, fields in entries
        ]

    def locate(self, ids: Iterable[str]) -> dict[str, Location]:
        """Where examples were stored; ids that were never added, are forgotten, or too long ago, are missing."""
        wanted = list(dict.fromkeys(ids))
        if not wanted:
            return {}
        with reachable():
            values = self._database.client.mget([self._keys.seen(example_id) for example_id in wanted])
            generations = self._database.client.hgetall(self._keys.generations)
        found = {}
        for example_id, value in zip(wanted, values, strict=True):
            if value is None:
                continue
            _, position, generation, label = value.split(b"|", 3)
            if int(generations.get(label, 0)) == int(generation):
                found[example_id] = Location(label=label.decode(), position=position.decode())
        return found
