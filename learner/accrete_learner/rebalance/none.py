"""No rebalancing."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch

from accrete_learner.augment import Augmentation
from accrete_learner.network import Network
from accrete_learner.train import Report, TrainingSet


@dataclass(frozen=True, kw_only=True)
class NoRebalance:
    """Leaves the network as training left it."""

    needs_exemplars: bool = False

    def resized(self, *, epochs: float, learning_rate: float, batch_size: int) -> Self:
        return self

    def __call__(
        self,
        network: Network,
        balanced: Callable[[], TrainingSet],
        *,
        augmentation: Augmentation,
        generator: torch.Generator,
        report: Report,
    ) -> list[float]:
        return []
