"""No rebalancing."""

from dataclasses import dataclass
from typing import Self

from accrete_learner.rebalance.base import Trained


@dataclass(frozen=True, kw_only=True)
class NoRebalance:
    """Leave the network as it is after training."""

    needs_exemplars: bool = False
    calibration_share: float = 0.0

    def resized(self, *, epochs: float, learning_rate: float, batch_size: int, copies: int | None = None) -> Self:
        return self

    def __call__(self, trained: Trained) -> list[float]:
        return []
