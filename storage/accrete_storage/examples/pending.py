"""Examples that are acknowledged and not yet learned, in one stream per label."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

from accrete_storage.config import HoldoutConfig, StoreConfig, TeachingConfig
from accrete_storage.errors import PendingFull, QuotaExceeded
from accrete_storage.examples.example import Arrival, Example, unpack
from accrete_storage.examples.ids import is_holdout
from accrete_storage.redis.database import Database, reachable
from accrete_storage.redis.keys import Keys
from accrete_storage.renames import LEARNED, Renames, read_renames

_DAY_MS = 86_400_000
_PAGE = 1000
_RETRY_AFTER_S = 5.0
"""A step makes room, and a small one takes about this long."""


class Outcome(Enum):
    """What became of one example."""

    STORED = "S"
    DUPLICATE = "D"
    CONFLICT = "C"
    """The same id was stored with other content."""
    EARLIER = "E"
    """A duplicate, stored under another id: by an earlier release, or when its class had another label."""


_OUTCOMES = {outcome.value.encode(): outcome for outcome in Outcome}


@dataclass(frozen=True, kw_only=True, slots=True)
class PendingCount:
    """A label's pending examples."""

    examples: int
    holdout: int
    """How many of them are flagged for the hold-out."""
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
    """One pending example and its position."""

    position: str
    holdout: bool
    example: Example
    reviewed: bool = False
    """Whether it was set aside for review and released."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Location:
    """Where an example was stored; each version has learned it whose record reaches `position` for `label`."""

    label: str
    position: str
    in_review: bool = False
    """Whether it is in review; it is learned once it is released, which gives it another position."""
    merged: bool = False
    """Whether it was learned before its class became part of this one; its position is before all others then."""


class Stored(NamedTuple):
    """What became of one example, and the id under which it is stored, its own where nothing of it is."""

    outcome: Outcome
    id: str


class _Names(NamedTuple):
    """Labels that classes had before."""

    revision: int
    """That the last renaming of these made; the script says when there is a later one."""
    former: Mapping[str, tuple[str, ...]]
    """By label, the others that its examples came under."""


class PendingLog:
    """The pending examples."""

    def __init__(
        self, database: Database, keys: Keys, config: StoreConfig, holdout: HoldoutConfig, teaching: TeachingConfig
    ) -> None:
        self._database = database
        self._keys = keys
        self._config = config
        self._holdout = holdout
        self._teaching = teaching
        self._names = _Names(0, {})
        """Replaced as a whole, since several threads read it."""

    def add(self, examples: Sequence[Example | Arrival]) -> list[Outcome]:
        """Store a batch of one principal's examples, and return once they are as durable as promised.

        Args:
            examples: those that are no `Arrival` yet are made into one.

        Returns:
            The outcome of each.

        Raises:
            PendingFull, QuotaExceeded, StoreUnavailable, ValueError: as `store` does.
        """
        return [stored.outcome for stored in self.store(examples)]

    def store(self, examples: Sequence[Example | Arrival]) -> list[Stored]:
        """Store a batch of one principal's examples, and return once they are as durable as promised.

        Args:
            examples: those that are no `Arrival` yet are made into one.

        Returns:
            The outcome of each, with its id.

        Raises:
            PendingFull: nothing was stored, since all pending examples would be too many.
            QuotaExceeded: nothing was stored, since the principal's would be.
            StoreUnavailable: what was stored is unknown; the same ids can be sent again.
            ValueError: for examples of several principals, or a tensor that cannot be stored.
        """
        if not examples:
            return []
        quality = self._config.image_quality
        arrivals = [one if isinstance(one, Arrival) else Arrival.of(one, image_quality=quality) for one in examples]
        principal = arrivals[0].principal
        if any(arrival.principal != principal for arrival in arrivals):
            raise ValueError("a batch is of one principal")
        while (stored := self._store(arrivals, principal)) is None:
            renames, revision = read_renames(self._database, self._keys)
            self._names = _Names(revision, renames.former())
        return stored

    def _store(self, arrivals: Sequence[Arrival], principal: str) -> list[Stored] | None:
        """Store a batch, or nothing of it and return None when classes were renamed that this does not know of."""
        keys, config, teaching, known = self._keys, self._config, self._teaching, self._names
        names = [*keys.counted, keys.generations, keys.state, keys.versions, keys.forgotten, keys.kept]
        names += [*(keys.quota(principal, what) for what in ("examples", "labels")), keys.quarantine, keys.renamed]
        labels = {label: number for number, label in enumerate(dict.fromkeys(one.label for one in arrivals), 1)}
        arguments: list[str | bytes | int] = [
            config.pending_max_examples,
            config.pending_max_bytes,
            max(1, int(config.dedup_days * _DAY_MS)),  # the store refuses 0, in the middle of the script
            principal,
            teaching.examples_per_minute,
            teaching.new_labels_per_day,
            teaching.pending_bytes,
            _awaiting(principal) if teaching.approve_new_labels else "",
            known.revision,
            len(arrivals),
            len(labels),
            *labels,
        ]
        names += map(keys.pending, labels)
        for arrival in arrivals:
            names.append(keys.seen(arrival.id))
            flag = int(is_holdout(arrival.id, self._holdout.share))
            arguments += (f"{flag}{labels[arrival.label]}", arrival.digest, arrival.record, arrival.earlier_digest)
        names += (keys.seen(arrival.earlier_id) for arrival in arrivals)
        former = [
            (nth, *one)
            for nth, arrival in enumerate(arrivals, 1)
            for label in known.former.get(arrival.label, ())
            for one in arrival.under(label)
        ]
        for nth, example_id, digest in former:
            names.append(keys.seen(example_id))
            arguments += (nth, digest)
        answer = self._database.call("add", names, arguments)
        self._check_refused(answer)
        if answer[0] == b"RENAMED":
            return None
        return [
            # Of a duplicate under a former label the script says which of `former` it is.
            Stored(Outcome.EARLIER, former[int(part) - 1][1])
            if part.isdigit()
            else Stored(_OUTCOMES[part], arrival.earlier_id if part == b"E" else arrival.id)
            for arrival, part in zip(arrivals, answer, strict=True)
        ]

    def _check_refused(self, answer: list[Any]) -> None:
        if answer[0] == b"BUDGET":
            limit = f"pending_max_{answer[1].decode()}"
            raise PendingFull(limit, getattr(self._config, limit), _RETRY_AFTER_S)
        if answer[0] == b"QUOTA":
            limit, wait_ms = answer[1].decode(), answer[2]
            raise QuotaExceeded(limit, getattr(self._teaching, limit), wait_ms / 1000 if wait_ms else None)

    def labels(self) -> list[str]:
        """Return the labels with pending examples, sorted."""
        with reachable():
            return sorted(label.decode() for label in self._database.client.smembers(self._keys.labels))

    def counts(self) -> dict[str, PendingCount]:
        """Return the counts of each label with pending examples."""
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
        """Return the counts of all labels together."""
        oldest = [count.oldest_ms for count in self.counts().values()]
        with reachable():
            examples, size = self._database.client.hmget(self._keys.totals, "examples", "bytes")
        return PendingTotal(examples=int(examples or 0), bytes=int(size or 0), oldest_ms=min(oldest, default=None))

    def read(self, label: str, *, after: str = "", limit: int | None = None) -> list[PendingEntry]:
        """Return a label's pending examples after the position `after`, oldest first, at most `limit`."""
        first = f"({after}" if after else "-"
        with reachable():
            entries = self._database.client.xrange(self._keys.pending(label), min=first, count=limit)
        return [
            PendingEntry(
                position=position.decode(),
                holdout=fields[b"h"] == b"1",
                example=unpack(fields[b"e"], label),
                reviewed=b"r" in fields,
            )
            for position, fields in entries
        ]

    def locate(self, ids: Iterable[str]) -> dict[str, Location]:
        """Return where examples were stored, without ids that were never added, were forgotten, or are too old."""
        wanted = list(dict.fromkeys(ids))
        if not wanted:
            return {}
        with self._database.transaction() as pipeline:
            pipeline.mget([self._keys.seen(example_id) for example_id in wanted])
            pipeline.hgetall(self._keys.renamed)
            pipeline.hgetall(self._keys.generations)
            values, *renamed = pipeline.execute()
        renames = Renames(*renamed)
        found = {}
        for example_id, value in zip(wanted, values, strict=True):
            if value is None:
                continue
            _, position, generation, label = value.decode().split("|", 3)
            if (now := renames.resolve(label, int(generation))) is not None:
                found[example_id] = Location(
                    label=now.label,
                    position=LEARNED if now.merged else position.removeprefix("r"),
                    in_review=position.startswith("r") and not now.merged,
                    merged=now.merged,
                )
        return found

    def search(self, ids: Set[str]) -> Iterator[tuple[str, Location]]:
        """Yield where examples wait whose ids `locate` knows no more, by reading all that is pending or in review."""
        if not ids:
            return
        for label in self.labels():
            for entry in self._pages(label):
                if entry.example.id in ids:
                    yield entry.example.id, Location(label=label, position=entry.position)
        with reachable():
            labels = self._database.client.smembers(self._keys.review_labels)
        for label in (name.decode() for name in labels):
            with reachable():
                notes = self._database.client.hgetall(self._keys.review_notes(label))
            for position, note in notes.items():
                if (example_id := json.loads(note)["id"]) in ids:
                    yield example_id, Location(label=label, position=position.decode(), in_review=True)

    def _pages(self, label: str) -> Iterator[PendingEntry]:
        """Yield all of a label's pending examples, with a thousand in memory at a time."""
        after = ""
        while page := self.read(label, after=after, limit=_PAGE):
            yield from page
            after = page[-1].position


def _awaiting(principal: str) -> str:
    """Return the quarantine entry of a label that is not known yet."""
    taught = f", first taught by {principal}," if principal else ""
    return json.dumps(
        {"count": 0, "attempts": 0, "reason": f"the label is new{taught} and awaits approval", "awaiting": True}
    )
