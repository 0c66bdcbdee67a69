"""What a closed form has learned: the sums over all examples, and the few that measure it.

It is a function of the features in the store alone. A learner that starts, or that reads them again after a deletion,
has what one would have that never saw anything else.

Shapes: n examples, d feature length, C classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from accrete_learner.analytic import AnalyticHead, Earlier, Statistics, choose, fit
from accrete_model.vectors import Floats
from accrete_storage.examples.features import Kind
from accrete_storage.examples.ids import holdout_rank
from accrete_storage.renames import Rename
from accrete_storage.store import Store

#: Examples that measure a version by leaving each out, at most; an accuracy is then known to about three points.
MEASURED = 1000
#: Examples that are added to the sums at once, which bounds the memory.
_BATCH = 8192


@dataclass(frozen=True, kw_only=True)
class _Class:
    """One class's examples."""

    ids: frozenset[str]
    sample: tuple[tuple[int, str, Floats], ...]
    """Rank, id and feature [d] of those that come first by their rank, which is random but fixed for each id."""

    def with_examples(self, ids: Sequence[str], features: Floats, most: int, below: int) -> _Class:
        ranked = ((holdout_rank(name), name, row) for name, row in zip(ids, features, strict=True))
        fresh = (entry for entry in ranked if entry[0] < below)
        kept = sorted((*self.sample, *fresh), key=lambda entry: entry[:2])[:most]
        # Copies, for a row that is a part of `features` keeps all of them in memory.
        return _Class(ids=self.ids.union(ids), sample=tuple((rank, name, row.copy()) for rank, name, row in kept))

    def with_class(self, other: _Class, most: int, below: int) -> _Class:
        """Return both as one class, of whose examples those below a rank may measure."""
        ranked = sorted((*self.sample, *other.sample), key=lambda entry: entry[:2])
        return _Class(ids=self.ids | other.ids, sample=tuple(entry for entry in ranked if entry[0] < below)[:most])


_EVERY_RANK = 2**64
_NO_EXAMPLES = _Class(ids=frozenset(), sample=())


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """All examples that are learned, at one revision of the store. Immutable."""

    revision: int
    """The store's revision of deletions."""
    statistics: Statistics
    classes: Mapping[str, _Class]
    """By label, in the order of the statistics' classes."""
    earlier: Earlier | None = None
    """What was solved for it, or for a part of it."""
    unseen_below: Mapping[str, int] = field(default_factory=dict)
    """By label, the rank below which an example may measure: of the others a deep step trained the backbone. All
    examples of a label that is not there may."""

    @classmethod
    def empty(cls, feature_length: int, revision: int, unseen_below: Mapping[str, int] | None = None) -> Ledger:
        """Return the ledger of no example."""
        statistics = Statistics.empty(feature_length)
        return cls(revision=revision, statistics=statistics, classes={}, unseen_below=unseen_below or {})

    @property
    def labels(self) -> tuple[str, ...]:
        """In the order of the statistics' classes."""
        return tuple(self.classes)

    def with_examples(self, arrived: Iterable[tuple[str, Sequence[str], Floats]]) -> Ledger:
        """Return the ledger with examples added; those that it has, and repeated ones, are left out.

        Args:
            arrived: label, ids and features [n, d]. A new label gets the next class.
        """
        classes = dict(self.classes)
        rows, features = [], []
        for label, ids, found in arrived:
            own = classes.get(label, _NO_EXAMPLES)
            fresh = {name: row for row, name in enumerate(ids) if name not in own.ids}
            if not fresh:
                continue
            chosen = found[list(fresh.values())]
            below = self.unseen_below.get(label, _EVERY_RANK)
            classes[label] = own.with_examples(list(fresh), chosen, _most(len(self.classes)), below)
            features.append(chosen)
            rows += [label] * len(chosen)
        if not rows:
            return self
        row_of = {label: row for row, label in enumerate(classes)}
        x, y = np.concatenate(features), np.array([row_of[label] for label in rows])
        return replace(
            self,
            statistics=self.statistics.grown(len(classes)).with_examples(x, y),
            classes=classes,
            earlier=self.earlier and self.earlier.with_examples(x, y),
        )

    def after(self, renames: Sequence[Rename]) -> Ledger | None:
        """Return the ledger of the same examples once classes were renamed or merged, oldest first.

        Returns:
            None where with fewer classes more examples of each measure than are kept here; they are in the store.
        """
        ledger = self
        for rename in renames:
            ledger = ledger._merged(rename) if rename.merged else ledger._renamed(rename)
        most = _most(len(ledger.classes))
        short = any(len(own.sample) < min(most, len(own.ids)) for own in ledger.classes.values())
        return None if short and len(ledger.classes) < len(self.classes) else ledger

    def _renamed(self, rename: Rename) -> Ledger:
        def now(label: str) -> str:
            return rename.new_label if label == rename.label else label

        # What an earlier class of that name had is no part of it.
        below = {label: rank for label, rank in self.unseen_below.items() if label != rename.new_label}
        return replace(
            self,
            revision=rename.revision,
            classes={now(label): own for label, own in self.classes.items()},
            unseen_below={now(label): rank for label, rank in below.items()},
        )

    def _merged(self, rename: Rename) -> Ledger:
        mine, others = self.classes.get(rename.label), self.classes.get(rename.new_label)
        if mine is None or others is None:
            return self._renamed(rename)
        labels = list(self.classes)
        below = dict(self.unseen_below)
        ranks = [below.pop(label, _EVERY_RANK) for label in (rename.label, rename.new_label)]
        together = others.with_class(mine, _most(len(labels) - 1), min(ranks))
        classes = {label: own for label, own in self.classes.items() if label != rename.label}
        return replace(
            self,
            revision=rename.revision,
            statistics=self.statistics.merged(labels.index(rename.label), labels.index(rename.new_label)),
            classes=classes | {rename.new_label: together},
            earlier=None,
            unseen_below=below | {rename.new_label: min(ranks)},
        )

    def solved(self) -> Solved:
        """Return the head, and the ledger whose next one is solved for in less time.

        Raises:
            ValueError: there is no example.
        """
        ids, features, classes = self.measured()
        head = fit(self.statistics, features, classes, self.earlier)
        return Solved(ledger=replace(self, earlier=Earlier.of(head, self.statistics)), head=head, measured=ids)

    def measured(self) -> tuple[list[str], Floats, list[int]]:
        """Return ids, features [n, d] and classes of the examples that measure, at most `MEASURED`.

        There may be none after a deep step, which leaves a fifth of each class's.
        """
        most = _most(len(self.classes))
        classes = enumerate(self.classes.values())
        at_hand = [(name, feature, row) for row, own in classes for _, name, feature in own.sample[:most]]
        if not at_hand:
            return [], np.zeros((0, self.statistics.feature_length), np.float32), []
        names, features, rows = zip(*at_hand, strict=True)
        chosen = choose(names, np.array(rows), MEASURED)
        return (
            [names[place] for place in chosen],
            np.stack([features[place] for place in chosen]),
            [rows[place] for place in chosen],
        )


class Solved(NamedTuple):
    """What a ledger was solved for."""

    ledger: Ledger
    head: AnalyticHead
    measured: list[str]
    """Ids of the examples that measure; the positions of the head's judgement are among them."""


def _most(classes: int) -> int:
    """Return how many examples of a class may be asked for, when there are so many classes."""
    return -(-MEASURED // max(1, classes))


def read_ledger(store: Store, labels: Iterable[str], *, feature_length: int, kind: Kind, revision: int) -> Ledger:
    """Add up all features in the store.

    Args:
        store: to read.
        labels: whose features; their order becomes the classes'. Those without any are left out.
        feature_length: d.
        kind: how the features are stored.
        revision: of the store, read before.

    Raises:
        StoreUnavailable: the store does not answer.
        CorruptRecord: features are of several lengths.
        ValueError: features are of another length.
    """
    ledger = Ledger.empty(feature_length, revision, store.features.unseen_below())
    batch: list[tuple[str, list[str], Floats]] = []
    for label in dict.fromkeys(labels):
        ids, features = store.features.of(label, kind)
        if ids:
            batch.append((label, ids, features))
        if sum(len(ids) for _, ids, _ in batch) >= _BATCH:
            ledger, batch = ledger.with_examples(batch), []
    return ledger.with_examples(batch)
