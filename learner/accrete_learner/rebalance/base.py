"""What a rebalancing does: correct, after training, the bias towards the classes that had more examples."""

from collections.abc import Callable
from typing import Protocol, Self

import torch

from accrete_learner.augment import Augmentation
from accrete_learner.network import Network
from accrete_learner.train import Report, TrainingSet


class Rebalance(Protocol):
    """One choice for the rebalancing stage; runs only in a step that has a parent."""

    @property
    def needs_exemplars(self) -> bool:
        """Whether it cannot run without an exemplar memory."""

    def resized(self, *, epochs: float, learning_rate: float, batch_size: int) -> Self:
        """The same with epochs and rate multiplied by what the method's own were multiplied by, and this batch size."""

    def __call__(
        self,
        network: Network,
        balanced: Callable[[], TrainingSet],
        *,
        augmentation: Augmentation,
        generator: torch.Generator,
        report: Report,
    ) -> list[float]:
        """Change `network` in place and return the losses by epoch.

        `balanced` makes a training set with equally many examples of every class that has any.
        """
