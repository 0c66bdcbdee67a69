"""FOSTER's logits alignment, by which classes with few examples are not pushed down (Wang et al., ECCV 2022).

Shapes: N examples, C classes.
"""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from accrete_learner.losses.base import Batch


def class_weights(counts: Tensor, beta: float) -> Tensor:
    """Return a weight for each class [C], float64, the larger the fewer examples it has, 1 on average.

    It is the inverse of the effective number of examples (Cui et al., Class-Balanced Loss Based on Effective Number of
    Samples, CVPR 2019, equation 2): (1 - beta) / (1 - beta^n) for n examples. A class without one counts as with one.

    Args:
        counts: [C] int64, examples of each class.
        beta: 0 or more, below 1. At 0 all weights are 1; the nearer to 1, the more the counts matter.
    """
    weights = (1 - beta) / (1 - beta ** counts.clamp(min=1).double())
    return weights / weights.mean()


@dataclass(frozen=True, kw_only=True)
class AlignedCrossEntropy:
    """Mean cross-entropy of scores that are divided by their classes' weights.

    A class of few examples has a score that counts less, so that training makes it larger. A first step has plain
    cross-entropy.
    """

    beta: float = 0.97
    """Of the weights. The authors' settings have 0.97 for ImageNet-100, 0.94 for CIFAR-100 from 50 classes on, and 0.98
    falling to 0.94 over the steps from 10 classes on."""

    def applies(self, old_count: int, new_count: int) -> bool:
        return True

    def __call__(self, batch: Batch) -> Tensor:
        scores = batch.scores
        if batch.old_count:
            scores = scores / class_weights(batch.class_counts, self.beta).to(scores.dtype)
        return F.cross_entropy(scores, batch.labels)
