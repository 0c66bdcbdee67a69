"""The heads of RanPAC and of DS-AL, on z = features @ projection.

RanPAC scores `scale * (relu(z) @ weight.T + bias)`. DS-AL adds `scale * tanh(z) @ compensation.T`.

Sources: McDonnell et al., RanPAC (NeurIPS 2023), section 4.2; Zhuang et al., DS-AL (AAAI 2024), equation 18.

Shapes: d feature length, p random features, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from accrete_model.rules.base import Scores, Take
from accrete_model.vectors import Floats


@dataclass(frozen=True, kw_only=True)
class RandomFeatures:
    """Tensors of the head on random features."""

    projection: Floats  # [d, p]
    weight: Floats  # [C, p]
    bias: Floats  # [C]
    compensation: Floats | None = None  # [C, p]
    scale: Floats  # [1]; a regression's scores lie around 0 to 1, and a softmax wants wider ones

    @classmethod
    def read(cls, take: Take, *, classes: int, length: int) -> Self:
        """See `StoredRule.read`."""
        projection = take("projection", (length, None))
        rows = (classes, projection.shape[1])
        compensation = take("compensation", rows, default=np.zeros(rows, np.float32))
        return cls(
            projection=projection,
            weight=take("weight", rows),
            compensation=compensation if compensation.any() else None,
            bias=take("bias", (classes,)),
            scale=take("scale", (1,), default=np.ones(1, np.float32)),
        )

    def scores(self, kept: Sequence[int]) -> Scores:
        """See `Rule.scores`."""
        weight = np.ascontiguousarray(self.weight[kept].T * self.scale)
        projection, bias = self.projection, self.bias[kept] * self.scale
        second = None if self.compensation is None else np.ascontiguousarray(self.compensation[kept].T * self.scale)

        def scores(features: Floats) -> Floats:
            random = features @ projection
            added = bias if second is None else np.tanh(random) @ second + bias
            np.maximum(random, 0, out=random)
            return random @ weight + added

        return scores
