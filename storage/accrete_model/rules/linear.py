"""The linear head: features @ weight.T + bias.

Shapes: d feature length, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from accrete_model.rules.base import Scores, Take
from accrete_model.vectors import Floats


@dataclass(frozen=True, kw_only=True)
class Linear:
    """Tensors of the linear head."""

    weight: Floats  # [C, d]
    bias: Floats  # [C]

    @classmethod
    def read(cls, take: Take, *, classes: int, length: int) -> Self:
        """See `StoredRule.read`."""
        return cls(weight=take("weight", (classes, length)), bias=take("bias", (classes,)))

    def scores(self, kept: Sequence[int]) -> Scores:
        """See `Rule.scores`."""
        weight, bias = np.ascontiguousarray(self.weight[kept].T), self.bias[kept]
        return lambda features: features @ weight + bias
