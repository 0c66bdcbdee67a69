"""How a step trains that learns with two backbones and ends with one.

Source: Wang et al., FOSTER: Feature Boosting and Compression for Class-Incremental Learning (ECCV 2022).
"""

from dataclasses import dataclass, replace
from typing import Self

from accrete_learner.losses import BalancedDistillation, Term
from accrete_learner.training.schedule import Schedule

#: Passes through a network that a batch takes: one forward each, and two more backward through the one that learns.
#: Boosting has the frozen network beside the new one, compression both of them beside the student.
_BOOSTING_PASSES, _COMPRESSION_PASSES = 4, 5


@dataclass(frozen=True, kw_only=True)
class Boosting:
    """Later steps train a copy of the backbone beside the frozen one, and then one backbone to answer as both.

    Boosting is what the method's own terms and `increment` say, of a network with two branches
    (`training.two_branches`). Compression trains the network that the step leaves, from where the step before left it,
    with both branches as its teacher.
    """

    compression: Schedule
    terms: tuple[Term, ...] = (BalancedDistillation(),)
    """Their sum is the loss of compression."""
    aligned: bool = False
    """Whether the new classes' rows are scaled to the old rows' mean length before compression (WA). The authors' code
    can, and none of their settings does: the class weights in the loss are against the same bias."""

    def resized(self, *, epochs: float, learning_rate: float, batch_size: int, copies: int | None = None) -> Self:
        """Return the same with another compression; see `Schedule.scaled`."""
        scaled = self.compression.scaled(
            epochs=epochs, learning_rate=learning_rate, batch_size=batch_size, copies=copies
        )
        return replace(self, compression=scaled)

    def shared(self, seconds: float, boosting_epochs: int) -> tuple[float, float]:
        """Return the seconds of both trainings, by which the same share of the epochs of each fits."""
        first, second = _BOOSTING_PASSES * boosting_epochs, _COMPRESSION_PASSES * self.compression.epochs
        return seconds * first / (first + second), seconds * second / (first + second)
