"""Distillation by squared error, as in LUCIR's baseline that imitates old scores and the study's pairs with MSE.

Shapes: N examples, T classes that the teacher knows.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from accrete_learner.heads.cosine import cosines
from accrete_learner.losses.base import Batch


@dataclass(frozen=True, kw_only=True)
class ScoreMatching:
    """Squared distance of the old classes' scores from the old network's, summed over classes, mean over examples."""

    on: Literal["scores", "cosines", "sigmoid", "softmax"] = "scores"
    """What is compared. `cosines` are those before the head's scale, as LUCIR's code has it. `sigmoid` and `softmax`
    are of the scores."""
    weight: float = 1.0

    def applies(self, old_count: int, new_count: int) -> bool:
        return old_count > 0

    def __call__(self, batch: Batch) -> Tensor:
        own, wanted = self._pair(batch)
        return self.weight * (own - wanted).square().sum() / len(own)

    def _pair(self, batch: Batch) -> tuple[Tensor, Tensor]:
        own, wanted = batch.taught()
        if self.on == "sigmoid":
            return torch.sigmoid(own), torch.sigmoid(wanted)
        if self.on == "softmax":
            return own.softmax(1), wanted.softmax(1)
        if self.on == "cosines":
            if batch.teacher_features is None or batch.teacher_rows is None:
                raise ValueError("cosines need the features and rows of the network as it was before the step")
            rows = batch.rows[: own.shape[1]]
            return cosines(batch.features, rows), cosines(batch.teacher_features, batch.teacher_rows)
        return own, wanted
