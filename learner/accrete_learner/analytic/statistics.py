"""What a closed-form head needs of all examples so far: a count and a sum per class, and one Gram matrix.

The sums are the same in any order and in any parts, and an example can be taken out of them again. To that end features
are rounded to multiples of `GRID` first: their products then add up in float64 without any rounding while no entry of
the Gram matrix is above 2**17 (131,072 examples with features of mean square 1, more than 10**8 with features of unit
length), and two ways to the same set of examples end in the same bits. Above that they agree to rounding.

Source: the sums are those of Zhuang et al., ACIL (NeurIPS 2022), theorem 1, with class counts.
Shapes: N examples, d feature length, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Doubles = NDArray[np.float64]
Reals = NDArray[np.floating[Any]]
"""Of either precision."""
Labels = NDArray[np.int64]

#: Features are multiples of this, about a sixth of the spacing of float16 at the usual 1 / sqrt(d) of a feature.
GRID = 2.0**-18
#: Examples that are in float64 at a time, which bounds the memory to this many rows.
_CHUNK = 4096


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """The sums over all examples so far, float64. Methods return new ones and leave these as they are."""

    counts: Doubles
    """[C], examples per class; whole numbers."""
    sums: Doubles
    """[C, d], the features' sum per class."""
    gram: Doubles
    """[d, d], the features' products with each other, over all classes."""

    @classmethod
    def empty(cls, feature_length: int, class_count: int = 0) -> Statistics:
        """Return the sums over no example."""
        return cls(
            counts=np.zeros(class_count),
            sums=np.zeros((class_count, feature_length)),
            gram=np.zeros((feature_length, feature_length)),
        )

    @property
    def feature_length(self) -> int:
        """d."""
        return len(self.gram)

    @property
    def class_count(self) -> int:
        """C."""
        return len(self.counts)

    @property
    def example_count(self) -> int:
        """N."""
        return int(self.counts.sum())

    def grown(self, class_count: int) -> Statistics:
        """Return the sums with further classes, which have no example yet, up to `class_count`.

        Raises:
            ValueError: when there are more classes already.
        """
        missing = class_count - self.class_count
        if missing < 0:
            raise ValueError(f"class_count = {class_count}: there are {self.class_count} classes already")
        return Statistics(
            counts=np.pad(self.counts, (0, missing)),
            sums=np.pad(self.sums, ((0, missing), (0, 0))),
            gram=self.gram,
        )

    def with_examples(self, features: ArrayLike, labels: ArrayLike) -> Statistics:
        """Return the sums with examples added, given their features [N, d] and classes [N], 0 to C - 1.

        Raises:
            ValueError: when a feature is not finite, or a shape or a class does not fit.
        """
        return self._changed(features, labels, 1.0)

    def without_examples(self, features: ArrayLike, labels: ArrayLike) -> Statistics:
        """Return the sums with examples removed that had been added with the same features and classes.

        Raises:
            ValueError: as `with_examples` does, and when more of a class are removed than it has.
        """
        return self._changed(features, labels, -1.0)

    def keep_rows(self, rows: Sequence[int]) -> Statistics:
        """Return the sums of the classes that stay, in their new order.

        Raises:
            ValueError: when a class that is dropped still has examples, which the Gram matrix could not be rid of.
        """
        chosen = list(rows)
        dropped = np.setdiff1d(np.arange(self.class_count), chosen)
        if (left := self.counts[dropped]).any():
            raise ValueError(
                f"class {dropped[np.argmax(left > 0)]} is dropped with {int(left.max())} examples: remove them first"
            )
        return Statistics(counts=self.counts[chosen], sums=self.sums[chosen], gram=self.gram)

    def merged(self, row: int, into: int) -> Statistics:
        """Return the sums with one class's examples as another's; the classes behind it move up. Exact."""
        counts, sums = self.counts.copy(), self.sums.copy()
        counts[into] += counts[row]
        sums[into] += sums[row]
        return Statistics(counts=np.delete(counts, row), sums=np.delete(sums, row, axis=0), gram=self.gram)

    def means(self) -> Doubles:
        """Return the mean feature of each class [C, d]; 0 for a class without examples."""
        means: Doubles = self.sums / np.maximum(self.counts, 1.0)[:, None]
        return means

    def _changed(self, features: ArrayLike, labels: ArrayLike, sign: float) -> Statistics:
        x, y = np.asarray(features), as_labels(labels, self.class_count)
        if x.ndim != 2 or x.shape[1] != self.feature_length or len(x) != len(y):
            raise ValueError(
                f"features of shape {x.shape} and {len(y)} labels: must be [N, {self.feature_length}] and N"
            )
        counts = self.counts + sign * np.bincount(y, minlength=self.class_count)
        if (counts < 0).any():
            short = int(np.argmin(counts))
            raise ValueError(f"class {short}: {-int(counts[short])} more examples to remove than it has")
        sums, gram = self.sums.copy(), self.gram.copy()
        for start in range(0, len(y), _CHUNK):
            part = slice(start, start + _CHUNK)
            rounded = on_grid(x[part])
            gram += sign * (rounded.T @ rounded)
            order = np.argsort(y[part], kind="stable")
            classes, starts = np.unique(y[part][order], return_index=True)
            sums[classes] += sign * np.add.reduceat(rounded[order], starts, axis=0)
        sums[counts == 0] = 0.0
        if not counts.any():
            gram[:] = 0.0
        return Statistics(counts=counts, sums=sums, gram=gram)


def on_grid(features: ArrayLike) -> Doubles:
    """Return features [N, d] in float64, rounded to multiples of `GRID`, as the sums count them.

    Raises:
        ValueError: when one is not finite.
    """
    x = np.asarray(features, dtype=np.float64)
    if not np.isfinite(x).all():
        raise ValueError("a feature is not finite")
    rounded: Doubles = np.rint(x * (1 / GRID)) * GRID
    return rounded


def as_labels(labels: ArrayLike, class_count: int) -> Labels:
    """Return classes [N] as int64.

    Raises:
        ValueError: when one is not 0 to `class_count` - 1.
    """
    y = np.asarray(labels, dtype=np.int64).reshape(-1)
    if len(y) and not 0 <= y.min() <= y.max() < class_count:
        raise ValueError(f"classes {y.min()} to {y.max()}: must be 0 to {class_count - 1}")
    return y
