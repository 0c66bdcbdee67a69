"""Whether one backbone is better than another, by the answers of two closed forms to the same images.

Shapes: n and m examples, h that judge, d feature length, C classes.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accrete_learner.analytic import Statistics, fit

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]

#: Standard errors that the difference must be above nothing: of twenty differences that are none, one is.
_SURE = 1.645
#: Examples that choose a closed form's strengths, at most.
_CHOOSING = 1000


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How two backbones answered the same images."""

    total: int
    before: int
    """Images that the one in use answered right."""
    after: int
    gained: int
    """Images that the tuned one alone answered right."""
    lost: int

    @property
    def gain(self) -> float:
        """Difference of the accuracies, -1 to 1."""
        return (self.gained - self.lost) / self.total if self.total else 0.0

    @property
    def least(self) -> float:
        """What the gain surely is, by the deviation of the paired differences."""
        if not self.total:
            return -1.0
        variance = (self.gained + self.lost) / self.total - self.gain**2
        return self.gain - _SURE * math.sqrt(max(0.0, variance) / self.total)

    def is_better(self, margin: float) -> bool:
        """Return whether the tuned one gains `margin` and surely something; at 0 and below, if it loses no more."""
        return self.total > 0 and self.gain >= margin - 1e-9 and (margin <= 0 or self.least > 0)

    def describe(self) -> str:
        """Return the figures for people."""
        return (
            f"{100 * self.gain:+.1f} points on {self.total} images that training did not see ({self.before} right "
            f"before, {self.after} after; {self.gained} gained, {self.lost} lost)"
        )


def compare(
    before: Callable[[Floats], Labels], after: Callable[[Floats], Labels], x_before: Floats, x_after: Floats, y: Labels
) -> Comparison:
    """Compare two answerers on the images that judge.

    Args:
        before: from features [h, d] to classes [h], of the backbone in use.
        after: the same of the tuned one.
        x_before: [h, d], features of the images by the one in use.
        x_after: [h, d], by the tuned one.
        y: [h], their classes.
    """
    old, new = before(x_before) == y, after(x_after) == y
    return Comparison(
        total=len(y),
        before=int(old.sum()),
        after=int(new.sum()),
        gained=int((new & ~old).sum()),
        lost=int((old & ~new).sum()),
    )


def answerer(x: Floats, y: Labels, seed: int) -> Callable[[Floats], Labels]:
    """Return the closed form of examples [n, d] with classes [n], as a function from features to classes."""
    statistics = Statistics.empty(x.shape[1], int(y.max()) + 1).with_examples(x, y)
    choosing = np.random.default_rng(seed).permutation(len(y))[:_CHOOSING]
    head = fit(statistics, x[choosing], y[choosing])
    return lambda features: (features @ head.weight.T + head.bias).argmax(axis=1)
