"""A support vector machine: a sum over exemplars of dual * exp(-gamma * distance^2), + intercept, on unit features.

Source: Cortes and Vapnik, Support-Vector Networks (1995).

Shapes: d feature length, E exemplars, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from accrete_model.rules.base import Scores, Take
from accrete_model.vectors import Floats, unit


@dataclass(frozen=True, kw_only=True)
class Svm:
    """Tensors of the support vector machines, one per class."""

    x: Floats  # [E, d], unit length
    dual: Floats  # [C, E]
    intercept: Floats  # [C]
    gamma: float

    @classmethod
    def read(cls, take: Take, *, classes: int, length: int) -> Self:
        """See `StoredRule.read`."""
        x = take("x", (None, length))
        return cls(
            x=x,
            dual=take("dual", (classes, len(x))),
            intercept=take("intercept", (classes,)),
            gamma=float(take("gamma", (1,))[0]),
        )

    def scores(self, kept: Sequence[int]) -> Scores:
        """See `Rule.scores`."""
        used = np.flatnonzero(self.dual[kept].any(axis=0))  # exemplars that support no class kept cost nothing
        twice = np.float32(2 * self.gamma)  # the squared distance of unit vectors is 2 - 2 * cosine
        x = np.ascontiguousarray(self.x[used].T)
        dual, intercept = np.ascontiguousarray(self.dual[kept][:, used].T), self.intercept[kept]
        return lambda features: np.exp(twice * (unit(features) @ x - 1)) @ dual + intercept
