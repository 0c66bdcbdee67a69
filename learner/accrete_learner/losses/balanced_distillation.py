"""FOSTER's balanced distillation, by which few exemplars pass on what a teacher knows (Wang et al., ECCV 2022).

Shapes: N examples, T classes that the teacher knows.
"""

from dataclasses import dataclass

from torch import Tensor

from accrete_learner.losses.aligned_cross_entropy import class_weights
from accrete_learner.losses.base import Batch
from accrete_learner.losses.distillation import divergence


@dataclass(frozen=True, kw_only=True)
class BalancedDistillation:
    """Divergence of softened scores from the teacher's probabilities, weighted by class, which add up to 1 again.

    Its gradient is that of the cross-entropy with these as soft targets. Unlike that, it is 0 where both agree.
    """

    temperature: float = 2.0
    """T of the authors' settings."""
    beta: float = 0.97
    """Of the weights, as in `AlignedCrossEntropy`; 0.97 in all of the authors' settings."""

    def applies(self, old_count: int, new_count: int) -> bool:
        return old_count > 0

    def __call__(self, batch: Batch) -> Tensor:
        scores, teacher_scores = batch.taught()
        weights = class_weights(batch.class_counts[: scores.shape[1]], self.beta).to(scores.dtype)
        # p w / sum(p w) is the softmax of log p + log w, and a score that is larger by T log w is softened to that.
        return divergence(scores, teacher_scores + self.temperature * weights.log(), self.temperature)
