"""The nearest exemplars vote, near ones more: scores are the logarithms of the classes' smoothed shares of the votes.

An exemplar's vote is how much its weight, exp(cosine / temperature), exceeds that of the first exemplar that does not
vote: it fades as that one comes near, so no rounding of a feature changes a probability by a leap.

Sources: Cover and Hart, Nearest Neighbor Pattern Classification (1967); Dudani, The Distance-Weighted
k-Nearest-Neighbor Rule (1976): the weight falls to zero towards the farthest neighbour; Wu et al., Unsupervised Feature
Learning via Non-Parametric Instance Discrimination (CVPR 2018), section 3.4: weights exp(cosine / temperature).

Shapes: N images, d feature length, E exemplars, C classes, K of them that are not masked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from accrete_model.rules.base import Scores, Take
from accrete_model.vectors import Floats, unit


@dataclass(frozen=True, kw_only=True)
class Knn:
    """Tensors of the vote."""

    x: Floats  # [E, d], unit length
    y: NDArray[np.int64]  # [E]
    offset: Floats  # [C], added to the scores; far below 0 for a class without exemplars
    neighbours: int
    """Exemplars that vote."""
    temperature: float
    smoothing: float
    """Votes of the nearest exemplar that all classes share, so that no probability is 0."""

    @classmethod
    def read(cls, take: Take, *, classes: int, length: int) -> Self:
        """See `StoredRule.read`. Exemplars of a class outside 0 to C - 1 never vote."""
        x = take("x", (None, length))
        return cls(
            x=x,
            y=take("y", (len(x),), "int64"),
            offset=take("offset", (classes,)),
            neighbours=int(take("neighbours", (1,), "int64")[0]),
            temperature=float(take("temperature", (1,))[0]),
            smoothing=float(take("smoothing", (1,))[0]),
        )

    def scores(self, kept: Sequence[int]) -> Scores:
        """See `Rule.scores`. Exemplars of other classes do not vote, so that those kept take their places."""
        of_column = [np.flatnonzero(self.y == label) for label in kept]
        filled = [column for column, rows in enumerate(of_column) if len(rows)]
        counts = [len(of_column[column]) for column in filled]
        starts = np.cumsum([0, *counts], dtype=np.int64)[:-1]  # of each class among the exemplars, class by class
        rows = np.concatenate([np.empty(0, np.int64), *of_column])
        x, offset = np.ascontiguousarray(self.x[rows].T), self.offset[kept]
        share = np.float32(self.smoothing / len(kept))

        def scores(features: Floats) -> Floats:
            of_classes = np.full((len(features), len(kept)), share)
            if filled:
                of_classes[:, filled] += np.add.reduceat(self._votes(unit(features) @ x), starts, axis=1)
            logarithms: Floats = np.log(of_classes / of_classes.sum(axis=1, keepdims=True))
            return logarithms + offset

        return scores

    def _votes(self, cosines: Floats) -> Floats:
        """Return the votes [N, E] of exemplars with these cosines [N, E], in votes of the nearest one."""
        nearest = cosines.max(axis=1, keepdims=True)
        weights: Floats = np.exp((cosines - nearest) / np.float32(self.temperature))
        first = weights.shape[1] - 1 - self.neighbours
        if first < 0:
            return weights
        votes: Floats = np.maximum(weights - np.partition(weights, first, axis=1)[:, first : first + 1], 0)
        return votes
