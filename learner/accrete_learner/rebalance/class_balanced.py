"""Class-balanced fine-tuning, as LUCIR's code has it for ImageNet: the head alone, on equally many of each class."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Self

import torch

from accrete_learner.augment import Augmentation
from accrete_learner.losses import CrossEntropy
from accrete_learner.network import Network
from accrete_learner.schedule import Schedule
from accrete_learner.train import Report, TrainingSet, train


@dataclass(frozen=True, kw_only=True)
class ClassBalancedFineTuning:
    """Cross-entropy on a balanced set with all of the head's rows free, the old ones too, and the backbone as it is."""

    schedule: Schedule = field(default=Schedule(epochs=20, learning_rate=0.01, milestones=(10,)))
    """20 epochs at 0.01, a tenth after 10: LUCIR's code for ImageNet; others use the same length on CIFAR."""
    needs_exemplars: bool = True

    def resized(self, *, epochs: float, learning_rate: float, batch_size: int) -> Self:
        resized = self.schedule.resized(
            epochs=max(1, round(self.schedule.epochs * epochs)),
            learning_rate=self.schedule.learning_rate * learning_rate,
            batch_size=batch_size,
        )
        return replace(self, schedule=resized)

    def __call__(
        self,
        network: Network,
        balanced: Callable[[], TrainingSet],
        *,
        augmentation: Augmentation,
        generator: torch.Generator,
        report: Report,
    ) -> list[float]:
        network.head.freeze_old(False)
        return train(
            network,
            balanced(),
            (CrossEntropy(),),
            self.schedule,
            augmentation=augmentation,
            generator=generator,
            report=report,
            train_backbone=False,
        )
