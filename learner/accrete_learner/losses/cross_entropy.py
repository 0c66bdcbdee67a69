"""Cross-entropy on class scores.

Shapes: N examples, C classes in all.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from accrete_learner.losses.base import Batch


@dataclass(frozen=True, kw_only=True)
class CrossEntropy:
    """Mean cross-entropy over all classes, or over the new classes alone for the examples of new classes."""

    among_new: bool = False
    """Compare a new class's example with the new classes alone, so that it does not push the old ones down (LwF).
    With one new class that would always be 0, so it is then compared with all. Examples of old classes always are."""
    share: bool = False
    """Weigh the term by the share of new classes, as BiC does (section 3), where distillation has the rest of the
    weight. The weight is 1 in a first step, and in one without a new class."""

    def applies(self, old_count: int, new_count: int) -> bool:
        return True

    def __call__(self, batch: Batch) -> Tensor:
        scores = batch.scores
        if self.among_new and batch.class_count - batch.old_count >= 2:
            columns = torch.arange(batch.class_count, device=scores.device)
            left_out = (batch.labels >= batch.old_count)[:, None] & (columns < batch.old_count)[None, :]
            scores = scores.masked_fill(left_out, float("-inf"))
        loss = F.cross_entropy(scores, batch.labels)
        new_count = batch.class_count - batch.old_count
        return loss * (new_count / batch.class_count) if self.share and new_count else loss
