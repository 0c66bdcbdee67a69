"""Fine-tuning on equally many examples of each class, as EEIL, LUCIR and the mnemonics paper do with other choices."""

from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor

from accrete_learner.losses import CrossEntropy, Term
from accrete_learner.ranks import Shard
from accrete_learner.rebalance.base import Trained
from accrete_learner.training.loop import train
from accrete_learner.training.network import Network
from accrete_learner.training.schedule import Schedule


@dataclass(frozen=True, kw_only=True)
class BalancedFineTuning:
    """A second, short training on a balanced set with all of the head's rows free, the old ones too."""

    schedule: Schedule = field(default=Schedule(epochs=20, learning_rate=0.01, milestones=(10,)))
    """20 epochs at 0.01, and a tenth of it after 10, as in LUCIR's code for ImageNet. Others do the same on CIFAR."""
    backbone: bool = False
    """Whether the backbone trains too (EEIL, mnemonics), or the head alone (LUCIR)."""
    statistics: bool = True
    """Whether batch normalisation takes its statistics from the balanced set. Those of a few exemplars, which are close
    to their classes' means, differ from those of the images to come."""
    terms: tuple[Term, ...] = (CrossEntropy(),)
    protect_new: bool = False
    """EEIL's temporary distillation (section 3.2), in which the network as training left it is the teacher for the new
    classes, and the network from before the step that for the old ones. Only terms that distil use it."""
    needs_exemplars: bool = True
    calibration_share: float = 0.0

    def resized(self, *, epochs: float, learning_rate: float, batch_size: int, copies: int | None = None) -> Self:
        scaled = self.schedule.scaled(epochs=epochs, learning_rate=learning_rate, batch_size=batch_size, copies=copies)
        return replace(self, schedule=scaled)

    def __call__(self, trained: Trained) -> list[float]:
        network, old_count = trained.network, len(trained.network.head.old_rows)
        new_count = len(network.head.new_rows)
        protects = self.protect_new and new_count > 0
        teacher = _Both(before=trained.teacher, after=network.teacher()) if protects else trained.teacher
        network.head.freeze_old(False)
        return train(
            network,
            trained.balanced(),
            [term for term in self.terms if term.applies(old_count, new_count)],
            self.schedule,
            augmentation=trained.augmentation,
            generator=trained.generator,
            report=trained.report,
            teacher=teacher,
            train_backbone=self.backbone,
            statistics=self.statistics,
            group=trained.group,
        )


@dataclass(frozen=True, kw_only=True)
class _Both:
    """Old classes' scores of the network before the step, new classes' of the network after its training."""

    before: Network
    after: Network

    @property
    def rows(self) -> Tensor:
        return self.before.rows

    def __call__(self, prepared: Tensor, shard: Shard | None = None) -> tuple[Tensor, Tensor]:
        features, old = self.before(prepared, shard)
        _, scores = self.after(prepared, shard)
        return features, torch.cat((old, scores[:, old.shape[1] :]), dim=1)
