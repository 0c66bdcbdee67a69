"""LUCIR's less-forget constraint, by which features keep their direction (Hou et al., CVPR 2019, section 3.3).

Shapes: N examples, d feature length.
"""

import math
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from accrete_learner.losses.base import Batch


def adaptive_weight(base: float, old_count: int, new_count: int) -> float:
    """Return `base * sqrt(old / new)` (LUCIR, section 3.3), where a step without a new class counts as one with one."""
    return base * math.sqrt(old_count / max(new_count, 1))


@dataclass(frozen=True, kw_only=True)
class LessForget:
    """Mean over all examples of `1 - cos(feature, feature before the step)`, times the adaptive weight."""

    base: float = 5.0
    """lambda_base for CIFAR-100 in LUCIR, section 4.1."""
    adaptive: bool = True
    """Whether the weight grows with the share of old classes (section 3.3) or is `base` (LUCIR's ablation)."""

    def applies(self, old_count: int, new_count: int) -> bool:
        return old_count > 0

    def __call__(self, batch: Batch) -> Tensor:
        if batch.teacher_features is None:
            raise ValueError("less-forget needs the features of the network as it was before the step")
        weight = self.base
        if self.adaptive:
            weight = adaptive_weight(self.base, batch.old_count, batch.class_count - batch.old_count)
        return weight * (1 - F.cosine_similarity(batch.features, batch.teacher_features, dim=1)).mean()
