"""What a version answered, image by image, when its step judged it; kept as long as the version can be activated.

Images are named by their ids, and classes by their rows in the version's record, so that they are called what the
record calls them. A deletion takes an id out of what is kept of every version, and forgetting all ids of the class.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from accrete_storage.examples.ids import holdout_rank
from accrete_storage.redis.database import Database, reachable
from accrete_storage.redis.keys import Keys
from accrete_storage.versions.record import VersionRecord

MOST = 2000
"""Images that are kept of a version: about 100 KB."""
SAMPLE = 1000
"""Where a version judged more: so many of these are a sample, the same for every version; the others are mistakes."""
PAIRS = 5000
"""Pairs of classes whose confusions are kept, the most frequent ones."""
_EVERY_RANK = 2**64


class Judged(NamedTuple):
    """One image, and the most probable answer for it."""

    id: str
    label: str
    predicted: str
    probability: float
    """Of the predicted label, 0 to 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgements:
    """What is kept of how a version judged."""

    images: Sequence[Judged]
    """Without those that were deleted since."""
    confusions: Mapping[tuple[str, str], int]
    """By label and what it was taken for, how many of all images that were judged, those deleted since included."""
    below: int
    """Every image whose `holdout_rank` is below it was kept, right or wrong; of the others mistakes alone were."""

    def by_id(self, below: int) -> dict[str, Judged]:
        """Return the images whose rank is below a number, by id."""
        if below >= _EVERY_RANK:
            return {one.id: one for one in self.images}
        return {one.id: one for one in self.images if holdout_rank(one.id) < below}


class JudgementStore:
    """Reads what is kept; a step's commit writes it, and deletions, forgetting and retirement remove it."""

    def __init__(self, database: Database, keys: Keys) -> None:
        self._database = database
        self._keys = keys

    def of(self, record: VersionRecord) -> Judgements | None:
        """Return what is kept of a version; None where nothing is."""
        with reachable():
            stored: bytes | None = self._database.client.hget(self._keys.judgements, str(record.version))
        return None if stored is None else _unpack(stored, record.labels)


def pack(judged: Sequence[Judged], labels: Sequence[str]) -> str:
    """Return what is kept of images that a version judged, as it is stored; see `MOST`.

    Args:
        judged: all of them.
        labels: in the order of the version's record; all labels of the images are among them.
    """
    row_of = {label: row for row, label in enumerate(labels)}
    kept, below = _kept(judged)
    wrong = Counter((one.label, one.predicted) for one in judged if one.label != one.predicted)
    body = {
        "ids": [one.id for one in kept],
        "rows": [row_of[one.label] for one in kept],
        "predicted": [row_of[one.predicted] for one in kept],
        "probability": [round(float(one.probability), 4) for one in kept],
        "confusions": [
            [row_of[label], row_of[predicted], count] for (label, predicted), count in wrong.most_common(PAIRS)
        ],
        "below": f"{below:x}",  # as text, for it has more digits than the numbers of a script
    }
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"))


def _kept(judged: Sequence[Judged]) -> tuple[Sequence[Judged], int]:
    """Return the images to keep, and the rank below which these are all.

    A sample by rank is the same for every version, so that two versions can be compared by it; mistakes alone would
    make each of them look worse than the other. Mistakes beyond it are for people to look at.
    """
    if len(judged) <= MOST:
        return judged, _EVERY_RANK
    ranked = sorted((holdout_rank(one.id), place) for place, one in enumerate(judged))
    beyond = [judged[place] for _, place in ranked[SAMPLE:]]
    mistakes = sorted((one for one in beyond if one.label != one.predicted), key=lambda one: -one.probability)
    mistakes = mistakes[: MOST - SAMPLE]
    sampled = MOST - len(mistakes)
    inside = {place for _, place in ranked[:sampled]}
    known = {judged[place].id for place in inside}
    sample = [one for place, one in enumerate(judged) if place in inside]
    return [*sample, *(one for one in mistakes if one.id not in known)], ranked[sampled][0]


def _unpack(stored: bytes, labels: Sequence[str]) -> Judgements:
    """Return what is stored; a script writes an empty list as an empty object."""
    body = json.loads(stored)
    columns = (body["ids"], body["rows"], body["predicted"], body["probability"])
    confusions: Counter[tuple[str, str]] = Counter()
    for row, predicted, count in body["confusions"]:
        confusions[labels[row], labels[predicted]] += count  # rows of classes that were merged since have one label
    return Judgements(
        images=[
            Judged(id=name, label=labels[row], predicted=labels[predicted], probability=probability)
            for name, row, predicted, probability in zip(*columns, strict=True)
        ],
        confusions=confusions,
        below=int(body["below"], 16),
    )
