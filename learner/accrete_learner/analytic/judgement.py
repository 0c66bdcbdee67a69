"""What leave-one-out says of a head.

Shapes: n examples that were judged, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accrete_kit.intervals import wilson_interval
from accrete_learner.analytic.statistics import Doubles, Labels


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """The answers of heads that never saw the one example that they answer for."""

    positions: NDArray[np.intp]
    """[n], which of the examples given were judged: all but those that are alone in their class."""
    labels: Labels
    """[n], their classes."""
    probabilities: Doubles
    """[n, C], calibrated; 0 for a class without examples."""
    nearness: Doubles
    """[n], the cosine to the nearest class mean, without the example in it."""
    class_count: int
    """C."""

    @property
    def predicted(self) -> Labels:
        """Return the class of the highest probability [n]."""
        predicted: Labels = self.probabilities.argmax(axis=1)
        return predicted

    @property
    def total(self) -> int:
        """Return n."""
        return len(self.labels)

    @property
    def hits(self) -> int:
        """Return how many of the n were answered right."""
        return int((self.predicted == self.labels).sum())

    @property
    def accuracy(self) -> float | None:
        """Return hits over n, or None when nothing was judged."""
        return self.hits / self.total if self.total else None

    @property
    def interval(self) -> tuple[float, float]:
        """Return the 95 % interval of the accuracy."""
        return wilson_interval(self.hits, self.total)

    def by_class(self) -> NDArray[np.int64]:
        """Return hits and judged examples of each class [C, 2]."""
        right = self.labels[self.predicted == self.labels]
        return np.stack([np.bincount(which, minlength=self.class_count) for which in (right, self.labels)], axis=1)

    def confusion(self) -> NDArray[np.int64]:
        """Return how many examples of a class (row) were answered as another (column) [C, C]."""
        flat = np.bincount(self.labels * self.class_count + self.predicted, minlength=self.class_count**2)
        return flat.reshape(self.class_count, self.class_count)
