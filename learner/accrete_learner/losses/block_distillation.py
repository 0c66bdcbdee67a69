"""EEIL's distillation per group of classes (Castro et al., ECCV 2018, section 3.2, equations 2 and 3).

Shapes: N examples, T classes that the teacher knows, in groups that came together.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from accrete_learner.losses.base import Batch
from accrete_learner.losses.distillation import divergence


@dataclass(frozen=True, kw_only=True)
class BlockDistillation:
    """Divergence of softened scores within each group of the teacher's classes, summed over the groups, without T^2."""

    temperature: float = 2.0
    """T of EEIL, section 3.2."""
    weight: float = 1.0

    def applies(self, old_count: int, new_count: int) -> bool:
        return old_count > 0

    def __call__(self, batch: Batch) -> Tensor:
        scores, teacher_scores = batch.taught()
        sizes = list(batch.blocks or (teacher_scores.shape[1],))
        pairs = zip(
            torch.split(scores, sizes, dim=1),
            torch.split(teacher_scores, sizes, dim=1),
            strict=True,
        )
        return self.weight * torch.stack([divergence(own, wanted, self.temperature) for own, wanted in pairs]).sum()
