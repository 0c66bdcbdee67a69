"""The record of a version once a class of it is called otherwise, or is part of another one.

Rows of the version's head keep their order, since its files stay as they are. A row without a class has the label "",
and rows of classes that were merged have the same one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from accrete_storage.renames import LEARNED
from accrete_storage.versions.record import VersionRecord


@dataclass(frozen=True, kw_only=True, slots=True)
class Relabelling:
    """What happens to the names of classes in all records."""

    label: str
    """The class that is renamed, or becomes part of another."""
    new_label: str
    merge: bool
    """Whether `new_label` is a class."""
    alive: bool
    """Whether `label` is a class now, so that rows of it that are masked are of an earlier one of that name."""
    forgotten: Mapping[str, int]
    """See `Registry.forgotten`."""
    revision: int
    """The store's, before."""

    def of(self, record: VersionRecord) -> VersionRecord:
        """Return the record as it is after it.

        One that was of the store's revision still is after a renaming, by which nothing is to be learned anew.
        """
        a_lives = self._lives(record, self.label) or (not self.alive and self.label in record.labels)
        b_lives = self.merge and self._lives(record, self.new_label)
        fresh = {
            label
            for label, lives in ((self.label, a_lives), (self.new_label, b_lives))
            if lives and label in record.new_labels
        }
        is_new = bool(fresh) and len(fresh) == a_lives + b_lives
        new_labels = [
            self._renamed(label) for label in record.new_labels if label not in (self.label, self.new_label) or is_new
        ]

        def merged(values: Mapping[str, Any], combine: Any) -> dict[str, Any]:
            return self._values(values, combine, a_lives=a_lives, b_lives=b_lives)

        learned = merged(record.learned, lambda a, b: b)
        if (
            self.merge
            and a_lives
            and self.label in record.learned
            and not (b_lives and self.new_label in record.learned)
        ):
            learned[self.new_label] = LEARNED  # positions of the one stream say nothing in the other
        counts = record.class_examples

        def accuracy(a: float, b: float) -> float:
            of_a, of_b = counts.get(self.label, 0), counts.get(self.new_label, 0)
            return (a * of_a + b * of_b) / (of_a + of_b) if of_a + of_b else (a + b) / 2

        current = not self.merge and record.revision == self.revision
        return replace(
            record,
            labels=[self._row(record, label) for label in record.labels],
            new_labels=list(dict.fromkeys(new_labels)),
            class_accuracy=merged(record.class_accuracy, accuracy),
            class_examples=merged(counts, lambda a, b: a + b),
            learned=learned,
            since=merged(record.since, min),
            consumed=merged(record.consumed, lambda a, b: a + b),
            revision=self.revision + 1 if current else record.revision,
        )

    def _lives(self, record: VersionRecord, label: str) -> bool:
        return label in record.labels and not self._masked(record, label)

    def _masked(self, record: VersionRecord, label: str) -> bool:
        return self.forgotten.get(label, 0) > record.revision

    def _renamed(self, label: str) -> str:
        return self.new_label if label == self.label else label

    def _row(self, record: VersionRecord, label: str) -> str:
        """Return what a row is called, "" for one whose class is gone for good."""
        if label == self.label:
            return "" if self.alive and self._masked(record, label) else self.new_label
        if label == self.new_label and (not self.merge or self._masked(record, label)):
            return ""
        return label

    def _values(self, values: Mapping[str, Any], combine: Any, *, a_lives: bool, b_lives: bool) -> dict[str, Any]:
        """Return values by label, in their order, with those of both classes as one."""
        lives = {self.label: a_lives, self.new_label: b_lives}
        left = {label: value for label, value in values.items() if lives.get(label, True)}
        if self.label not in left:
            return left
        value = left[self.label]
        if self.new_label in left:
            value = combine(value, left[self.new_label])
        return {self._renamed(label): value if label in lives else other for label, other in left.items()}
