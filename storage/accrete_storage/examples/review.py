"""Examples in review, which are neither learned nor removed until an operator decides."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from accrete_storage.errors import Fenced, NotFound
from accrete_storage.examples.ids import position_key
from accrete_storage.examples.pending import PendingEntry
from accrete_storage.redis.database import Database, reachable
from accrete_storage.redis.keys import Keys

T = TypeVar("T")

REASONS = ("contradiction", "duplicates", "burst", "share")
"""Why an example may be in review."""

_AT_ONCE = 1000
"""Examples that one script moves, which takes an instant, so that others need not wait."""
_IDS = 10
"""Ids shown of a group."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """The examples in review that have the label, principal and reason given; None fits all."""

    label: str | None = None
    principal: str | None = None
    reason: str | None = None

    def __str__(self) -> str:
        parts = {"label": self.label, "principal": self.principal, "reason": self.reason}
        return ", ".join(f"{name} {value!r}" for name, value in parts.items() if value is not None)


@dataclass(frozen=True, kw_only=True, slots=True)
class ReviewGroup:
    """Examples in review of one label, principal and reason."""

    label: str
    principal: str
    reason: str
    examples: int
    bytes: int
    ids: tuple[str, ...]
    """Ids of the first ten."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Note:
    id: str
    reason: str
    principal: str
    holdout: str
    size: int


class Review:
    """Examples in review; an operator releases or drops them."""

    def __init__(self, database: Database, keys: Keys) -> None:
        self._database = database
        self._keys = keys

    def set_aside(self, epoch: int, label: str, reasons: Sequence[tuple[PendingEntry, str]]) -> int:
        """Move pending examples of a label, each with its reason, into review.

        Returns:
            How many were still pending.

        Raises:
            Fenced: another learner holds the lease.
        """
        keys, moved = self._keys, 0
        for part in _parts(reasons):
            names = [keys.state, *keys.counted, keys.review_labels, keys.pending(label), keys.review_notes(label)]
            names += [keys.review_records(label), *(keys.seen(entry.example.id) for entry, _ in part)]
            arguments: list[str | int] = [epoch, label]
            for entry, reason in part:
                arguments += (entry.position, json.dumps({"id": entry.example.id, "reason": reason}))
            found = int(self._database.call("set_aside", names, arguments))
            if found < 0:
                raise Fenced(f"epoch {epoch} is over: another learner holds the lease")
            moved += found
        return moved

    def total(self) -> int:
        """Return how many examples are in review."""
        with reachable():
            return int(self._database.client.hget(self._keys.totals, "review_examples") or 0)

    def groups(self) -> list[ReviewGroup]:
        """Return all that is in review, by label, principal and reason."""
        groups: dict[tuple[str, str, str], list[_Note]] = {}
        for label in self._labels():
            for note in self._notes(label).values():
                groups.setdefault((label, note.principal, note.reason), []).append(note)
        return [
            ReviewGroup(
                label=label,
                principal=principal,
                reason=reason,
                examples=len(notes),
                bytes=sum(note.size for note in notes),
                ids=tuple(note.id for note in notes[:_IDS]),
            )
            for (label, principal, reason), notes in sorted(groups.items())
        ]

    def release(self, selection: Selection) -> int:
        """Let examples be learned without another review, and return how many.

        Raises:
            NotFound: none fits the selection.
        """
        return self._end(selection, release=True)

    def drop(self, selection: Selection) -> int:
        """Remove examples, whose ids then count as unseen, and return how many.

        Raises:
            NotFound: none fits the selection.
        """
        return self._end(selection, release=False)

    def _end(self, selection: Selection, *, release: bool) -> int:
        keys, ended = self._keys, 0
        for label in self._labels() if selection.label is None else [selection.label]:
            fitting = [(position, note) for position, note in self._notes(label).items() if _fits(selection, note)]
            for part in _parts(fitting):
                names = [*keys.counted, keys.review_labels, keys.pending(label), keys.review_notes(label)]
                names += [keys.review_records(label), *(keys.seen(note.id) for _, note in part)]
                arguments = [label, int(release), *(position for position, _ in part)]
                if not release:  # before the example, so that none is dropped whose image stays
                    self._database.call("inbox_remove", keys.inbox, [note.id for _, note in part])
                ended += int(self._database.call("review", names, arguments))
        if not ended:
            raise NotFound("example in review", str(selection))
        if not release:
            self._database.rewrite_log()
        return ended

    def _labels(self) -> list[str]:
        with reachable():
            return sorted(label.decode() for label in self._database.client.smembers(self._keys.review_labels))

    def _notes(self, label: str) -> Mapping[str, _Note]:
        """Return the notes of a label by position, in order of arrival."""
        with reachable():
            found = self._database.client.hgetall(self._keys.review_notes(label))
        notes = {position.decode(): _Note(**json.loads(note)) for position, note in found.items()}
        return dict(sorted(notes.items(), key=lambda item: position_key(item[0])))


def _fits(selection: Selection, note: _Note) -> bool:
    return selection.principal in (None, note.principal) and selection.reason in (None, note.reason)


def _parts(items: Sequence[T]) -> Iterable[Sequence[T]]:
    return (items[start : start + _AT_ONCE] for start in range(0, len(items), _AT_ONCE))
