"""Pending examples with their features, as many as can be computed in a while.

Shapes: n examples, d feature length.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from accrete_learner_service.analytic.extractor import FrozenExtractor
from accrete_model.vectors import Floats
from accrete_storage.examples.example import Example
from accrete_storage.examples.features import rounded
from accrete_storage.examples.pending import PendingEntry
from accrete_storage.store import Store

#: Examples whose features are computed at once.
BATCH = 8


@dataclass(kw_only=True)
class Arrivals:
    """Examples that a step learns, label by label in the order in which they arrived."""

    examples: list[Example] = field(default_factory=list)
    features: list[Floats] = field(default_factory=list)
    """Each [d], rounded as they are stored."""
    consumed: dict[str, str] = field(default_factory=dict)
    """The position of the last one taken, by label."""
    counts: dict[str, int] = field(default_factory=dict)
    """By label."""
    first: dict[str, str] = field(default_factory=dict)
    """The position of the first one taken, by label."""

    def add(self, label: str, entries: Sequence[PendingEntry], features: Floats) -> None:
        """Add a label's next entries with their features [n, d]."""
        for entry, row in zip(entries, features, strict=True):
            self.examples.append(entry.example)
            self.features.append(row)
            self.first.setdefault(label, entry.position)
            self.consumed[label] = entry.position
            self.counts[label] = self.counts.get(label, 0) + 1

    def of(self, label: str) -> tuple[list[Example], Floats]:
        """Return the examples of a label and their features [n, d]."""
        chosen = [row for row, example in enumerate(self.examples) if example.label == label]
        return [self.examples[row] for row in chosen], np.stack([self.features[row] for row in chosen])


def read_arrivals(
    store: Store, labels: Collection[str], extractor: FrozenExtractor, *, seconds: float, check: Callable[[], None]
) -> Arrivals:
    """Read pending examples and compute their features for about so many seconds, one batch at least.

    Labels take turns, so that one with many examples does not keep another waiting.

    Raises:
        StepFailed: as `FrozenExtractor` does.
        StoreUnavailable: the store does not answer.
    """
    until = time.monotonic() + seconds
    arrivals = Arrivals()
    waiting = {label: _batches(store, label) for label in sorted(labels)}
    while waiting:
        for label, batches in list(waiting.items()):
            check()
            entries = next(batches, None)
            if entries is None:
                del waiting[label]
                continue
            features = extractor([entry.example for entry in entries])
            arrivals.add(label, entries, rounded(features, extractor.kind))
            # A first version of one class alone would tell nothing apart.
            if time.monotonic() > until and (len(arrivals.counts) > 1 or len(labels) == 1):
                return arrivals
    return arrivals


def _batches(store: Store, label: str) -> Iterator[list[PendingEntry]]:
    after = ""
    while page := store.pending.read(label, after=after, limit=BATCH):
        yield page
        after = page[-1].position
