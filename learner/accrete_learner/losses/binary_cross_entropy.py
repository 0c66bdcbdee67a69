"""Binary cross-entropy, in which every class is a yes-or-no question of its own.

Shapes: N examples, C classes in all.
"""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from accrete_learner.losses.base import Batch


def summed_binary_cross_entropy(scores: Tensor, targets: Tensor) -> Tensor:
    """Return the sigmoid cross-entropy of `scores` [N, C] with `targets` [N, C] from 0 to 1.

    It is the mean over examples of the sum over classes. The sum makes a class's gradient independent of the number of
    classes. iCaRL's code takes the mean over its 100 outputs and a learning rate of 2.0, which is 0.02 here.
    """
    return F.binary_cross_entropy_with_logits(scores, targets, reduction="sum") / len(scores)


def one_hot(batch: Batch) -> Tensor:
    """Return the batch's labels as float32 [N, C] of 0 and 1."""
    return F.one_hot(batch.labels, batch.class_count).to(batch.scores.dtype)


@dataclass(frozen=True, kw_only=True)
class BinaryCrossEntropy:
    """Binary cross-entropy with the one-hot label as its targets."""

    among_new: bool = False
    """Take the new classes' outputs alone, and leave the old ones' to a distillation beside it. An old class's example
    then has the target 0 for all of them. A first step, and one without a new class, take all outputs."""

    def applies(self, old_count: int, new_count: int) -> bool:
        return True

    def __call__(self, batch: Batch) -> Tensor:
        scores, targets = batch.scores, one_hot(batch)
        if self.among_new and batch.old_count < batch.class_count:
            scores, targets = scores[:, batch.old_count :], targets[:, batch.old_count :]
        return summed_binary_cross_entropy(scores, targets)
