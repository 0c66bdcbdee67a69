"""Squared error as a classification loss, one of the study of iCaRL's variants.

Shapes: N examples, C classes in all.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from accrete_learner.losses.base import Batch
from accrete_learner.losses.binary_cross_entropy import one_hot


@dataclass(frozen=True, kw_only=True)
class MeanSquaredError:
    """Squared distance of the sigmoids from the one-hot label, summed over classes, mean over examples."""

    weight: float = 1.0
    among_new: bool = False
    """Take the new classes' outputs alone, as in `BinaryCrossEntropy`."""

    def applies(self, old_count: int, new_count: int) -> bool:
        return True

    def __call__(self, batch: Batch) -> Tensor:
        scores, targets = batch.scores, one_hot(batch)
        if self.among_new and batch.old_count < batch.class_count:
            scores, targets = scores[:, batch.old_count :], targets[:, batch.old_count :]
        return self.weight * (torch.sigmoid(scores) - targets).square().sum() / len(scores)
