"""Distillation on scores, as Learning without Forgetting has it (Li and Hoiem, ECCV 2016, equation 2).

Shapes: N examples, O classes known before the step.
"""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from accrete_learner.losses.base import Batch


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """Divergence (Kullback-Leibler) of softened old-class scores from the old network's, mean over examples, no T^2.

    Its gradient is that of the papers' cross-entropy with soft targets; unlike that, it is 0 where both agree.
    """

    temperature: float = 2.0
    """T of LwF, section 4."""
    weight: float = 1.0

    def applies(self, old_count: int, new_count: int) -> bool:
        return old_count > 0

    def __call__(self, batch: Batch) -> Tensor:
        if batch.teacher_scores is None:
            raise ValueError("distillation needs the scores of the network as it was before the step")
        answered = F.log_softmax(batch.scores[:, : batch.old_count] / self.temperature, dim=1)
        wanted = F.log_softmax(batch.teacher_scores / self.temperature, dim=1)
        return self.weight * F.kl_div(answered, wanted, reduction="batchmean", log_target=True)
