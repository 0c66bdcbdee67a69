"""The distilling half of iCaRL's loss (Rebuffi et al., CVPR 2017, algorithm 3), for use with another classification.

Shapes: N examples, T classes that the teacher knows.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from accrete_learner.losses.base import Batch


@dataclass(frozen=True, kw_only=True)
class SigmoidDistillation:
    """Binary cross-entropy of old classes' sigmoids with the old network's, summed over classes, mean over examples."""

    weight: float = 1.0

    def applies(self, old_count: int, new_count: int) -> bool:
        return old_count > 0

    def __call__(self, batch: Batch) -> Tensor:
        scores, teacher_scores = batch.taught()
        wanted = torch.sigmoid(teacher_scores)
        return self.weight * F.binary_cross_entropy_with_logits(scores, wanted, reduction="sum") / len(scores)
