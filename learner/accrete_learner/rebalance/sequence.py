"""Several rebalancings, one after another."""

from dataclasses import dataclass, replace
from typing import Self

from accrete_learner.rebalance.base import Rebalance, Trained


@dataclass(frozen=True, kw_only=True)
class InSequence:
    """Each of `parts` in turn, for example fine-tuning on exemplars and then a bias correction."""

    parts: tuple[Rebalance, ...]

    @property
    def needs_exemplars(self) -> bool:
        return any(part.needs_exemplars for part in self.parts)

    @property
    def calibration_share(self) -> float:
        return max(part.calibration_share for part in self.parts)

    def resized(self, *, epochs: float, learning_rate: float, batch_size: int, copies: int | None = None) -> Self:
        parts = (
            part.resized(epochs=epochs, learning_rate=learning_rate, batch_size=batch_size, copies=copies)
            for part in self.parts
        )
        return replace(self, parts=tuple(parts))

    def __call__(self, trained: Trained) -> list[float]:
        return [loss for part in self.parts for loss in part(trained)]
