"""A perceptron with one hidden layer on unit features.

Shapes: d feature length, h hidden units, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from accrete_model.rules.base import Scores, Take
from accrete_model.vectors import Floats, unit


@dataclass(frozen=True, kw_only=True)
class Mlp:
    """Tensors of the perceptron."""

    weight_1: Floats  # [h, d]
    bias_1: Floats  # [h]
    weight_2: Floats  # [C, h]
    bias_2: Floats  # [C]

    @classmethod
    def read(cls, take: Take, *, classes: int, length: int) -> Self:
        """See `StoredRule.read`."""
        weight_1 = take("weight_1", (None, length))
        return cls(
            weight_1=weight_1,
            bias_1=take("bias_1", (len(weight_1),)),
            weight_2=take("weight_2", (classes, len(weight_1))),
            bias_2=take("bias_2", (classes,)),
        )

    def scores(self, kept: Sequence[int]) -> Scores:
        """See `Rule.scores`."""
        weight_1, bias_1 = np.ascontiguousarray(self.weight_1.T), self.bias_1
        weight_2, bias_2 = np.ascontiguousarray(self.weight_2[kept].T), self.bias_2[kept]
        return lambda features: np.maximum(unit(features) @ weight_1 + bias_1, 0) @ weight_2 + bias_2
