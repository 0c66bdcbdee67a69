"""The nearest mean of exemplars: scale * cosine of the features with each class's mean.

Source: Rebuffi et al., iCaRL (CVPR 2017), equation 2 and algorithm 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from accrete_model.rules.base import Scores
from accrete_model.vectors import Floats, unit

NME_SCALE = 10.0
"""Of the cosines, before the softmax. The probabilities depend on it, the ranking never does."""


@dataclass(frozen=True, kw_only=True)
class NearestMean:
    """The means, and the factor on their cosines."""

    means: Floats  # [C, d], unit length
    scale: float = NME_SCALE

    def scores(self, kept: Sequence[int]) -> Scores:
        """See `Rule.scores`."""
        means = np.ascontiguousarray(self.means[kept].T * np.float32(self.scale))
        return lambda features: unit(features) @ means
