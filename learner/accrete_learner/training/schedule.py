"""The SGD schedule of one training run. Standard library alone."""

import math
from dataclasses import dataclass, fields, replace
from typing import ClassVar, Self

#: gamma of the gradient noise (EEIL, section 4.3).
NOISE_DECAY = 0.55


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """SGD with a multi-step decay, as a paper states it. `resized` fits it to another number of epochs."""

    epochs: int
    """Passes over the training set."""
    learning_rate: float = 0.1
    """At the start, after any warm-up."""
    momentum: float = 0.9
    """The papers' and their codes' common value."""
    weight_decay: float = 5e-4
    """L2 penalty as torch.optim.SGD applies it, which adds this times the weight to the gradient."""
    batch_size: int = 128
    milestones: tuple[float, ...] = ()
    """Epochs after which the rate is multiplied by `decay`."""
    decay: float = 0.1
    warmup_epochs: float = 0.0
    """Epochs over which the rate rises from 0. The papers have none."""
    copies: int = 1
    """Times that an epoch takes each example, every time augmented anew. 12 in EEIL, which stores twelve variants."""
    gradient_noise: float = 0.0
    """eta of EEIL's noise (section 4.3, after Neelakantan et al. 2015). In epoch e, normal noise with the deviation
    eta / (1 + e)^0.55 is added to the gradient summed over a batch. EEIL has 0.3; 0 is none."""
    nesterov: ClassVar[bool] = False
    """Whether the momentum is Nesterov's."""
    alternates_flips: ClassVar[bool] = False
    """Whether an example that was mirrored in one pass is not in the next, in place of a draw for each."""

    def resized(
        self,
        *,
        epochs: int | None = None,
        learning_rate: float | None = None,
        weight_decay: float | None = None,
        batch_size: int | None = None,
        copies: int | None = None,
    ) -> Self:
        """Return this schedule with the given numbers. Milestones and warm-up move in proportion to the epochs."""
        factor = 1.0 if epochs is None else epochs / self.epochs
        return replace(
            self,
            epochs=self.epochs if epochs is None else epochs,
            milestones=tuple(milestone * factor for milestone in self.milestones),
            warmup_epochs=self.warmup_epochs * factor,
            learning_rate=self.learning_rate if learning_rate is None else learning_rate,
            weight_decay=self.weight_decay if weight_decay is None else weight_decay,
            batch_size=self.batch_size if batch_size is None else batch_size,
            copies=self.copies if copies is None else copies,
        )

    def scaled(self, *, epochs: float, learning_rate: float, batch_size: int, copies: int | None = None) -> Self:
        """Return this schedule with its epochs, one at least, and its rate times factors, for what follows a training.

        Args:
            epochs: factor on the number of epochs.
            learning_rate: factor on the learning rate.
            batch_size: examples per batch.
            copies: times that an epoch takes each example. None leaves them.
        """
        return self.resized(
            epochs=max(1, round(self.epochs * epochs)),
            learning_rate=self.learning_rate * learning_rate,
            batch_size=batch_size,
            copies=copies,
        )

    def rate(self, epoch: float) -> float:
        """Return the learning rate at `epoch`, counted from 0, where a fraction is a point within an epoch."""
        passed = sum(epoch >= milestone for milestone in self.milestones)
        return self.learning_rate * self._warmth(epoch) * self.decay**passed

    def _warmth(self, epoch: float) -> float:
        # The rate starts a little above 0, so that the first batch has an effect too.
        return min(1.0, (epoch + 0.01) / self.warmup_epochs) if self.warmup_epochs else 1.0

    def averages(self, epoch: int) -> bool:
        """Return whether the weights after each update of `epoch` count into a mean, which the training ends with."""
        return False

    def noise(self, epoch: int) -> float:
        """Return the deviation of the noise on the gradient summed over a batch in `epoch`, counted from 0.

        EEIL's code counts epochs where the paper's source counts updates. The published numbers came from epochs.
        """
        return float(self.gradient_noise / (1 + epoch) ** NOISE_DECAY)


@dataclass(frozen=True, kw_only=True)
class Cosine(Schedule):
    """Half a cosine from the rate to `last_rate`, after the warm-up (Loshchilov and Hutter, ICLR 2017, section 3).

    `milestones` and `decay` have no effect.
    """

    last_rate: float = 1e-6

    def rate(self, epoch: float) -> float:
        passed = max(0.0, epoch - self.warmup_epochs) / (self.epochs - self.warmup_epochs)
        share = (1 + math.cos(math.pi * min(1.0, passed))) / 2
        return self.last_rate + (self.learning_rate * self._warmth(epoch) - self.last_rate) * share


@dataclass(frozen=True, kw_only=True)
class Knee(Schedule):
    """A schedule for fewer epochs: a high rate that is held to the half and then falls linearly to nothing.

    Sources: the shape is the knee of Iyer et al., Wide-minima Density Hypothesis and the Explore-Exploit Learning Rate
    Schedule (JMLR 2023); alternating flips are Jordan's, 94% on CIFAR-10 in 3.29 Seconds on a Single GPU (2024); the
    mean of weights is Izmailov et al.'s, Averaging Weights Leads to Wider Optima (UAI 2018). `milestones` and `decay`
    have no effect.
    """

    nesterov: ClassVar[bool] = True
    alternates_flips: ClassVar[bool] = True

    @classmethod
    def of(cls, schedule: Schedule) -> Self:
        """Return the knee with the epochs, batches and penalty of another schedule, and 2.5 times its rate.

        That is 0.25 for most of the papers. A method whose loss is a sum over outputs has a small rate, and the same
        factor.
        """
        values = {field.name: getattr(schedule, field.name) for field in fields(Schedule)}
        return cls(
            **{
                **values,
                "learning_rate": 2.5 * schedule.learning_rate,
                "warmup_epochs": min(3.0, schedule.epochs / 4),
                "milestones": (),
            }
        )

    def rate(self, epoch: float) -> float:
        left = 2 * (1 - epoch / self.epochs)
        return self.learning_rate * self._warmth(epoch) * min(1.0, left)

    def averages(self, epoch: int) -> bool:
        return epoch >= 0.8 * self.epochs
