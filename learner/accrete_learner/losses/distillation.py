"""Distillation on scores, as Learning without Forgetting has it (Li and Hoiem, ECCV 2016, equation 2).

Shapes: N examples, O classes known before the step.
"""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from accrete_learner.losses.base import Batch


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """Kullback-Leibler divergence of softened old-class scores from the old network's, mean over examples, without T^2.

    Its gradient is that of the papers' cross-entropy with soft targets. Unlike that, it is 0 where both agree.
    """

    temperature: float = 2.0
    """T of LwF, section 4."""
    weight: float = 1.0
    share: bool = False
    """Weigh the term by the share of old classes, O / C (BiC, equation 3)."""
    per_old_class: float = 0.0
    """Weigh the term by this times O in place of `weight`. LUCIR's baseline and the mnemonics code have 1, which is
    their beta T^2 with beta = 0.25 and T = 2."""

    def applies(self, old_count: int, new_count: int) -> bool:
        return old_count > 0

    def __call__(self, batch: Batch) -> Tensor:
        scores, teacher_scores = batch.taught()
        weight = self.per_old_class * batch.old_count if self.per_old_class else self.weight
        if self.share:
            weight *= batch.old_count / batch.class_count
        return weight * divergence(scores, teacher_scores, self.temperature)


def divergence(scores: Tensor, teacher_scores: Tensor, temperature: float) -> Tensor:
    """Return the Kullback-Leibler divergence of softened scores [N, T] from the teacher's, mean over examples."""
    own = F.log_softmax(scores / temperature, dim=1)
    wanted = F.log_softmax(teacher_scores / temperature, dim=1)
    return F.kl_div(own, wanted, reduction="batchmean", log_target=True)
