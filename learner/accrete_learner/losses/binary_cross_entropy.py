"""Binary cross-entropy: every class is its own yes-or-no question.

Shapes: N examples, C classes in all.
"""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from accrete_learner.losses.base import Batch


def summed_binary_cross_entropy(scores: Tensor, targets: Tensor) -> Tensor:
    """Sigmoid cross-entropy of `scores` [N, C] with `targets` [N, C] in 0..1, summed over classes, mean over examples.

    The sum keeps a class's gradient the same however many classes there are; iCaRL's code takes the mean over its 100
    outputs and makes up for it with a learning rate of 2.0, which is 0.02 here.
    """
    return F.binary_cross_entropy_with_logits(scores, targets, reduction="sum") / len(scores)


def one_hot(batch: Batch) -> Tensor:
    """The batch's labels as [N, C] of 0 and 1, float32."""
    return F.one_hot(batch.labels, batch.class_count).to(batch.scores.dtype)


@dataclass(frozen=True, kw_only=True)
class BinaryCrossEntropy:
    """Binary cross-entropy with the true class as the only yes."""

    among_new: bool = False
    """Ask only the new classes' questions, and leave the old ones' to a distillation beside it. An old class's example
    is then a no to all of them. In a first step, and one without a new class, all questions are asked."""

    def applies(self, old_count: int, new_count: int) -> bool:
        return True

    def __call__(self, batch: Batch) -> Tensor:
        scores, targets = batch.scores, one_hot(batch)
        if self.among_new and batch.old_count < batch.class_count:
            scores, targets = scores[:, batch.old_count :], targets[:, batch.old_count :]
        return summed_binary_cross_entropy(scores, targets)
