"""Weight aligning (Zhao et al., Maintaining Discrimination and Fairness in Class Incremental Learning, CVPR 2020)."""

from dataclasses import dataclass
from typing import Self

import torch

from accrete_learner.heads import Head, LinearHead
from accrete_learner.rebalance.base import Trained


@dataclass(frozen=True, kw_only=True)
class WeightAligning:
    """New classes' rows are scaled to the mean length of the old classes' rows (section 4.2, equations 5-8).

    Biases stay. A cosine head stays too, because its scores do not depend on the rows' lengths.
    """

    needs_exemplars: bool = False
    calibration_share: float = 0.0

    def resized(self, *, epochs: float, learning_rate: float, batch_size: int, copies: int | None = None) -> Self:
        return self

    def __call__(self, trained: Trained) -> list[float]:
        align(trained.network.head)
        return []


@torch.no_grad()
def align(head: Head) -> None:
    """Scale a linear head's new rows to the mean length of its old rows."""
    if isinstance(head, LinearHead) and len(head.new_rows) and len(head.old_rows):
        ratio = head.old_rows.norm(dim=1).mean() / head.new_rows.norm(dim=1).mean().clamp(min=1e-12)
        head.new_rows.mul_(ratio)
