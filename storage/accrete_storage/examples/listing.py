"""A label's stored examples for people to look at, read in small parts, however many there are.

A place names an example among all of its label, so that a listing goes on from there. In streams it is the example's
position, which nothing moves. In lists it is the index and a digest of the record. Where that record has moved to a
lower index, since others before it were deleted, it is looked for; where it is gone, the index counts.
"""

import hashlib
import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, get_args

from accrete_storage.errors import CorruptRecord
from accrete_storage.examples.example import Example, unpack
from accrete_storage.examples.ids import position_key
from accrete_storage.examples.pending import PendingLog
from accrete_storage.redis.database import Database, reachable
from accrete_storage.redis.keys import Keys

Kind = Literal["exemplars", "holdout", "pending", "review"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""Where an example may be stored, in the order in which they are listed."""

_AT_ONCE = 25
"""Records that are in memory at a time, each of which may be megabytes."""
_PLACE = re.compile(r"(?:(exemplars|holdout)/(\d{1,9})/([0-9a-f]{16})|(pending|review)/(\d{1,18}-\d{1,18}))", re.ASCII)


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where an example is in a listing."""

    kind: Kind
    index: int = 0
    """In a list, from 0."""
    mark: str = ""
    """In a list, a digest of the record; else the position in the stream."""

    def __str__(self) -> str:
        listed = self.kind in ("exemplars", "holdout")
        return f"{self.kind}/{self.index}/{self.mark}" if listed else f"{self.kind}/{self.mark}"

    @property
    def order(self) -> tuple[int, int, tuple[int, int]]:
        """By which places are sorted."""
        listed = self.kind in ("exemplars", "holdout")
        return KINDS.index(self.kind), self.index, (0, 0) if listed else position_key(self.mark)

    @classmethod
    def parse(cls, text: str) -> "Place":
        """Return the place of a text that was made of one.

        Raises:
            ValueError: it was not.
        """
        found = _PLACE.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} is no place of a listing")
        list_kind, index, digest, stream_kind, position = found.groups()
        if list_kind:
            return cls(kind="exemplars" if list_kind == "exemplars" else "holdout", index=int(index), mark=digest)
        return cls(kind="pending" if stream_kind == "pending" else "review", mark=position)


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedExample:
    """A stored example, or what is known of one that cannot be read."""

    place: Place
    id: str
    """"" where the record cannot be read and nothing else has it."""
    example: Example | None
    """None where the record cannot be read."""
    reason: str = ""
    """Why it is in review."""
    damage: str = ""
    """Why it cannot be read."""

    @property
    def rank(self) -> int:
        """An exemplar's, from 1; 0 of all others."""
        return self.place.index + 1 if self.place.kind == "exemplars" else 0


class ExampleListing:
    """Reads what is stored of a label."""

    def __init__(self, database: Database, keys: Keys, pending: PendingLog) -> None:
        self._database = database
        self._keys = keys
        self._pending = pending

    def counts(self, label: str) -> dict[Kind, int]:
        """Return how many examples of a label there are of each kind."""
        keys = self._keys
        with self._database.transaction() as pipeline:
            pipeline.llen(keys.exemplars(label))
            pipeline.llen(keys.holdout(label))
            pipeline.xlen(keys.pending(label))
            pipeline.hlen(keys.review_notes(label))
            lengths = pipeline.execute()
        return dict(zip(KINDS, lengths, strict=True))

    def read(self, label: str, kinds: Collection[Kind] = KINDS, after: Place | None = None) -> Iterator[ListedExample]:
        """Yield a label's examples of some kinds behind a place, or all: in the order of `KINDS`, then as stored.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        for kind in KINDS[0 if after is None else KINDS.index(after.kind) :]:
            begin = after if after is not None and after.kind == kind else None
            if kind not in kinds:
                continue
            if kind in ("exemplars", "holdout"):
                yield from self._list(label, kind, begin)
            elif kind == "pending":
                yield from self._stream(label, begin)
            else:
                yield from self._in_review(label, begin)

    def find(self, label: str, ids: Collection[str], kinds: Collection[Kind] = KINDS) -> list[ListedExample]:
        """Return those of a label's examples that have one of some ids, in the order of `read`.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        missing, found = set(ids), list[ListedExample]()
        for kind in KINDS:
            if kind not in kinds or not missing:
                continue
            if kind == "pending":
                own = self._pending_with(label, missing)
            elif kind == "review":
                own = list(self._in_review(label, None, missing))
            else:
                every = self._list(label, kind, None)
                # Nothing is read beyond the last that is wanted.
                own = list(islice((one for one in every if one.id in missing), len(missing)))
            found += own
            missing = missing.difference(one.id for one in own)
        return sorted(found, key=lambda one: one.place.order)

    def _list(self, label: str, kind: Kind, after: Place | None) -> Iterator[ListedExample]:
        key = self._keys.exemplars(label) if kind == "exemplars" else self._keys.holdout(label)
        while records := self._records(key, after):
            for index, record in records:
                after = Place(kind=kind, index=index, mark=_digest(record))
                yield _listed(after, record)

    def _records(self, key: str, after: Place | None) -> list[tuple[int, bytes]]:
        """Return some records behind a place's, which may have moved to a lower index, with their indexes."""
        if after is None:
            return self._range(key, 0)
        records = self._range(key, after.index)
        if records and _digest(records[0][1]) == after.mark:
            return records[1:] or self._range(key, after.index + 1)
        for last in range(after.index - 1, -1, -_AT_ONCE):
            for index, record in reversed(self._range(key, max(0, last - _AT_ONCE + 1), last)):
                if _digest(record) == after.mark:
                    return self._range(key, index + 1)
        return records  # what was there is gone, and what was behind it has its index

    def _range(self, key: str, first: int, last: int | None = None) -> list[tuple[int, bytes]]:
        with reachable():
            records = self._database.client.lrange(key, first, first + _AT_ONCE - 1 if last is None else last)
        return list(enumerate(records, first))

    def _stream(self, label: str, after: Place | None) -> Iterator[ListedExample]:
        last = "" if after is None else after.mark
        while entries := self._entries(label, f"({last}" if last else "-", "+"):
            for position, record in entries:
                yield _listed(Place(kind="pending", mark=position), record)
            last = entries[-1][0]

    def _entries(self, label: str, first: str, last: str) -> list[tuple[str, bytes]]:
        with reachable():
            found = self._database.client.xrange(self._keys.pending(label), min=first, max=last, count=_AT_ONCE)
        return [(position.decode(), fields[b"e"]) for position, fields in found]

    def _in_review(
        self, label: str, after: Place | None, ids: Collection[str] | None = None
    ) -> Iterator[ListedExample]:
        """Yield examples in review behind a place, or all, of some ids alone or of all."""
        with reachable():
            names = self._database.client.hkeys(self._keys.review_notes(label))
        positions = sorted((name.decode() for name in names), key=position_key)
        if after is not None:
            positions = [one for one in positions if position_key(one) > position_key(after.mark)]
        for start in range(0, len(positions), _AT_ONCE):
            part = positions[start : start + _AT_ONCE]
            notes = {at: json.loads(note) for at, note in self._values(self._keys.review_notes(label), part)}
            chosen = [at for at, note in notes.items() if ids is None or note["id"] in ids]
            for at, record in self._values(self._keys.review_records(label), chosen):
                yield _listed(Place(kind="review", mark=at), record, notes[at])

    def _values(self, key: str, fields: list[str]) -> list[tuple[str, bytes]]:
        """Return fields of a hash, without those that have gone meanwhile."""
        if not fields:
            return []
        with reachable():
            values = self._database.client.hmget(key, fields)
        return [(name, value) for name, value in zip(fields, values, strict=True) if value is not None]

    def _pending_with(self, label: str, ids: set[str]) -> list[ListedExample]:
        """Return pending examples by id; those whose id is remembered no more are searched for."""
        places = self._pending.locate(ids)
        found = []
        for example_id, location in places.items():
            if location.label == label and not location.in_review:
                entries = self._entries(label, location.position, location.position)
                found += [_listed(Place(kind="pending", mark=at), record, {"id": example_id}) for at, record in entries]
        if unlocated := ids - places.keys():
            found += [one for one in self._stream(label, None) if one.id in unlocated]
        return found


def _digest(record: bytes) -> str:
    return hashlib.blake2b(record, digest_size=8).hexdigest()


def _listed(place: Place, record: bytes, note: dict[str, Any] | None = None) -> ListedExample:
    """Return an example by its record, with the note of its review, or whatever else is known of it."""
    known = note or {}
    example, damage = None, ""
    try:
        example = unpack(record)
    except CorruptRecord as error:
        damage = str(error)
    return ListedExample(
        place=place,
        id=example.id if example is not None else known.get("id", ""),
        example=example,
        reason=known.get("reason", ""),
        damage=damage,
    )
