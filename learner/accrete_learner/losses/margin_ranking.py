"""LUCIR's inter-class separation of old examples from new classes (Hou et al., CVPR 2019, section 3.4).

Shapes: N examples, d feature length, C classes in all, K the hardest new classes of an example.
"""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from accrete_learner.heads.cosine import cosines
from accrete_learner.losses.base import Batch


@dataclass(frozen=True, kw_only=True)
class MarginRanking:
    """Hinge loss by which an old example is closer to its class than to the K most similar new classes, by a margin.

    It is the mean over pairs of an old example and one of those K classes, on cosines without the head's scale, and 0
    for a batch without old examples.
    """

    margin: float = 0.5
    """m in LUCIR, section 4.1."""
    hardest: int = 2
    """K in LUCIR, section 4.1. Fewer where a step has fewer new classes."""
    weight: float = 1.0

    def applies(self, old_count: int, new_count: int) -> bool:
        return old_count > 0 and new_count > 0

    def __call__(self, batch: Batch) -> Tensor:
        similar = cosines(batch.features, batch.rows)
        hardest = min(self.hardest, batch.class_count - batch.old_count)
        own = similar.gather(1, batch.labels[:, None])
        rivals = similar[:, batch.old_count :].topk(hardest, dim=1).values
        # A mask in place of an index, because only the device knows the number of old examples in a batch.
        is_old = (batch.labels < batch.old_count).to(similar.dtype)[:, None]
        hinges = F.relu(self.margin - own + rivals) * is_old
        return self.weight * hinges.sum() / (is_old.sum() * hardest).clamp(min=1)
