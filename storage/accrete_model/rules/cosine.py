"""The cosine head: gain * scale * cosine of the features with the weight's rows + bias.

Sources: Hou et al., LUCIR (CVPR 2019), equation 4; the correction by gain and bias: Wu et al., BiC (CVPR 2019).

Shapes: d feature length, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from accrete_model.rules.base import Scores, Take
from accrete_model.vectors import Floats, unit


@dataclass(frozen=True, kw_only=True)
class Cosine:
    """Tensors of the cosine head."""

    weight: Floats  # [C, d]
    scale: Floats  # [1]
    gain: Floats  # [C]; ones where no bias was corrected
    bias: Floats  # [C]; zeros where no bias was corrected

    @classmethod
    def read(cls, take: Take, *, classes: int, length: int) -> Self:
        """See `StoredRule.read`."""
        return cls(
            weight=take("weight", (classes, length)),
            scale=take("scale", (1,)),
            gain=take("gain", (classes,), default=np.ones(classes, np.float32)),
            bias=take("bias", (classes,), default=np.zeros(classes, np.float32)),
        )

    def scores(self, kept: Sequence[int]) -> Scores:
        """See `Rule.scores`."""
        rows = unit(self.weight[kept]) * (self.scale * self.gain[kept])[:, None]
        weight, bias = np.ascontiguousarray(rows.T), self.bias[kept]
        return lambda features: unit(features) @ weight + bias
