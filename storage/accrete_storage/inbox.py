"""Images that callers asked about and the model was unsure of, until people have said what they show.

An item's id is that of the example that a label makes of it, so that what reaches the one reaches the other.

Shapes: d feature length.
"""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from accrete_storage.redis.database import Database, reachable
from accrete_storage.redis.keys import Keys

State = Literal["open", "labelled", "skipped"]
Why = Literal["unknown", "provisional", "margin"]

LABELLED_MS = 86_400_000
"""How long what was labelled stays, so that it can be undone."""

_AT_ONCE = 1000
"""Ids that one call of the store has."""
_BEGINNING = "inbox-"
_FEATURE = np.dtype("<f2")

T = TypeVar("T")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranked:
    """One label of what was answered."""

    label: str
    probability: float
    provisional: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """What was answered about an image, which does not change."""

    id: str
    time_ms: int
    """Milliseconds since 1970."""
    version: int
    revision: int
    """The deletion revision that the answer's masks were read at."""
    labels: tuple[Ranked, ...]
    """Most probable first."""
    unknown: bool
    why: Why
    doubt: float
    """0 to 1."""
    principal: str
    """Who asked; "" where nobody is asked for a name."""
    media_type: str
    """Of the image's file."""
    space: str
    """Names what made the feature; features of another are not comparable."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What somebody said about an image."""

    state: Literal["labelled", "skipped"]
    label: str = ""
    by: str = ""
    """Who said it; "" where nobody is asked for a name."""
    time_ms: int = 0
    """Milliseconds since 1970."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Places:
    """How many images there is room for."""

    all: int
    """That are open; as many more that somebody has labelled or skipped."""
    one_principal: int
    """Of the open ones."""


Noted = Decision | Literal["gone"] | None
"""What became of a decision: None, it was noted; "gone", there is no such image; or the label that it has already."""


def new_id(time_ms: int) -> str:
    """Return the id of an image that was asked about at a time; ids sort by it."""
    return f"{_BEGINNING}{time_ms:011x}-{secrets.token_hex(6)}"


def is_item(item_id: str) -> bool:
    """Return whether an id is of the form that `new_id` makes."""
    return item_id.startswith(_BEGINNING)


class Inbox:
    """The images, and what was said about them."""

    def __init__(self, database: Database, keys: Keys) -> None:
        self._database = database
        self._keys = keys

    def add(
        self, item: Item, image: bytes, feature: NDArray[np.floating], fingerprint: np.uint64, places: Places
    ) -> bool:
        """Keep an image, in the place of the least doubtful of the principal that has most where all are taken.

        Args:
            item: what was answered.
            image: its file.
            feature: [d].
            fingerprint: by which images that are nearly the same are known.
            places: how many there are.

        Returns:
            False where the item's principal has all of its places with images that are as doubtful.
        """
        mark = f"{int(fingerprint):016x}|{item.principal}"
        packed = feature.astype(_FEATURE).tobytes()
        arguments = [item.id, json.dumps(asdict(item)), image, packed, mark, item.doubt]
        arguments += [places.all, places.one_principal]
        return bool(self._database.call("inbox_add", self._keys.inbox, arguments))

    def open(self) -> dict[str, float]:
        """Return the doubt of each open image by id."""
        with reachable():
            found = self._database.client.zrange(self._keys.inbox_open, 0, -1, withscores=True)
        return {item_id.decode(): doubt for item_id, doubt in found}

    def count(self) -> int:
        """Return how many images are open."""
        with reachable():
            return int(self._database.client.zcard(self._keys.inbox_open))

    def decisions(self, ids: Sequence[str] | None = None) -> dict[str, Decision]:
        """Return what was said about images by id, of all or of those named."""
        key = self._keys.inbox_decisions
        if ids is not None:
            found = self._values(key, ids)
        else:
            with reachable():
                found = {name.decode(): value for name, value in self._database.client.hgetall(key).items()}
        return dict(_read(found, lambda value: Decision(**json.loads(value))))

    def items(self, ids: Sequence[str]) -> dict[str, Item]:
        """Return what was answered about images by id, without those that are not kept."""
        return dict(_read(self._values(self._keys.inbox_items, ids), _item))

    def images(self, ids: Sequence[str]) -> dict[str, bytes]:
        """Return the files of images by id, without those that are not kept."""
        return self._values(self._keys.inbox_images, ids)

    def features(self, ids: Sequence[str]) -> dict[str, NDArray[np.float16]]:
        """Return the features [d] of images by id, without those that are not kept."""
        found = self._values(self._keys.inbox_features, ids)
        return {item_id: np.frombuffer(value, _FEATURE) for item_id, value in found.items()}

    def fingerprints(self) -> NDArray[np.uint64]:
        """Return the fingerprints of all images, those that were labelled or skipped among them."""
        with reachable():
            marks = self._database.client.hvals(self._keys.inbox_marks)
        return np.array([int(mark.partition(b"|")[0], 16) for mark in marks], np.uint64)

    def decide(self, ids: Sequence[str], decision: Decision, places: Places) -> list[Noted]:
        """Note what somebody said about images. One that has a label already keeps it."""
        text, noted = json.dumps(asdict(decision)), list[Noted]()
        for part in _parts(ids):
            arguments = [text, decision.time_ms, places.all, *part]
            noted += map(_noted, self._database.call("inbox_decide", self._keys.inbox, arguments))
        return noted

    def expire(self, now_ms: int, keep_ms: int) -> int:
        """Remove images that were asked about more than `keep_ms` ago, and labelled ones after a day; return how many.

        What is labelled is kept for its day even where that is longer.
        """
        oldest = new_id(max(0, now_ms - keep_ms))[: len(_BEGINNING) + 11]
        decisions = self.decisions()
        expired = [item_id for item_id in self.open() if item_id < oldest]
        for item_id, decision in decisions.items():
            is_labelled = decision.state == "labelled"
            if decision.time_ms < now_ms - LABELLED_MS if is_labelled else item_id < oldest:
                expired.append(item_id)
        return sum(int(self._database.call("inbox_remove", self._keys.inbox, part)) for part in _parts(expired))

    def _values(self, key: str, ids: Iterable[str]) -> dict[str, bytes]:
        """Return the fields of a hash that are there."""
        values: dict[str, bytes] = {}
        for part in _parts(list(ids)):
            with reachable():
                found = self._database.client.hmget(key, part)
            values |= {name: value for name, value in zip(part, found, strict=True) if value is not None}
        return values


def _read(values: Mapping[str, bytes], read: Callable[[bytes], T]) -> Iterator[tuple[str, T]]:
    """Yield what stored values are, without damaged ones: the others are shown all the same."""
    for item_id, value in values.items():
        try:
            yield item_id, read(value)
        except (ValueError, TypeError, KeyError) as error:
            _log.warning("inbox.corrupt", extra={"id": item_id, "reason": str(error)})


def _item(value: bytes) -> Item:
    fields = json.loads(value)
    labels = tuple(Ranked(**one) for one in fields.pop("labels"))
    return Item(labels=labels, **fields)


def _noted(answer: bytes) -> Noted:
    if answer == b"GONE":
        return "gone"
    return Decision(**json.loads(answer)) if answer else None


def _parts(items: Sequence[T]) -> Iterable[Sequence[T]]:
    return (items[start : start + _AT_ONCE] for start in range(0, len(items), _AT_ONCE))
