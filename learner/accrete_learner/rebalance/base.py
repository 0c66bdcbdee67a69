"""What a rebalancing does: correct, after training, the bias towards the classes that had more examples."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self

import torch

from accrete_learner.augmentation.augment import Augmentation
from accrete_learner.progress import Report
from accrete_learner.training.loop import TrainingSet
from accrete_learner.training.network import Network


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a rebalancing works on; all tensors on the generator's device."""

    network: Network
    """As training left it; changed in place."""
    teacher: Network
    """The network as it was before the step."""
    balanced: Callable[[], TrainingSet]
    """Makes a training set with equally many examples of every class that has any."""
    calibration_split: TrainingSet | None
    """Examples that training did not see, equally many of every class that can spare any; None where no class can, or
    the method holds none out."""
    augmentation: Augmentation
    generator: torch.Generator
    report: Report


class Rebalance(Protocol):
    """One choice for the rebalancing stage; runs only in a step that has a parent."""

    @property
    def needs_exemplars(self) -> bool:
        """Whether it cannot run without an exemplar memory."""

    @property
    def calibration_share(self) -> float:
        """Share of the exemplars that training leaves to the rebalancing; 0 for none."""

    def resized(self, *, epochs: float, learning_rate: float, batch_size: int, copies: int | None = None) -> Self:
        """The same with epochs and rate multiplied by what the method's own were multiplied by, and this batch size.

        `copies` replaces the times that an epoch takes each example; None leaves them.
        """

    def __call__(self, trained: Trained) -> list[float]:
        """Change the network in place and return the losses by epoch."""
