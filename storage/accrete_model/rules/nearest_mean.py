"""The nearest mean (iCaRL): scale * cosine of the features with each class's mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from accrete_model.rules.base import Scores
from accrete_model.vectors import Floats, unit


@dataclass(frozen=True, kw_only=True)
class NearestMean:
    """See the module."""

    means: Floats  # [C, d], unit length
    scale: float

    def scores(self, kept: Sequence[int]) -> Scores:
        """See `Rule.scores`."""
        means = np.ascontiguousarray(self.means[kept].T * np.float32(self.scale))
        return lambda features: unit(features) @ means
