"""The interface of rebalancing, which corrects the bias towards the classes that had more examples."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self

import torch

from accrete_learner.augmentation.augment import Augmentation
from accrete_learner.progress import Report
from accrete_learner.ranks import ALONE, Group
from accrete_learner.training.loop import TrainingSet
from accrete_learner.training.network import Network


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a rebalancing works on. All tensors are on the generator's device."""

    network: Network
    """As training left it. The rebalancing changes it in place."""
    teacher: Network
    """The network as it was before the step."""
    balanced: Callable[[], TrainingSet]
    """Returns a training set with equally many examples of every class that has any."""
    calibration_split: TrainingSet | None
    """Examples that training did not use, equally many of every class that can spare any. None when the classes cannot
    spare any, or the method asks for none."""
    augmentation: Augmentation
    generator: torch.Generator
    report: Report
    group: Group = ALONE
    """The ranks that work on the step."""


class Rebalance(Protocol):
    """One choice for the rebalancing stage, which runs in a step that has a parent."""

    @property
    def needs_exemplars(self) -> bool:
        """Whether it cannot run without an exemplar memory."""

    @property
    def calibration_share(self) -> float:
        """Share of the exemplars that training leaves out for the rebalancing, 0 for none."""

    def resized(self, *, epochs: float, learning_rate: float, batch_size: int, copies: int | None = None) -> Self:
        """Return the same rebalancing with another length, rate and batch size.

        Args:
            epochs: factor on the number of epochs.
            learning_rate: factor on the learning rate.
            batch_size: examples per batch.
            copies: times that an epoch takes each example. None leaves them.
        """

    def __call__(self, trained: Trained) -> list[float]:
        """Change the network in place and return the mean loss per epoch."""
