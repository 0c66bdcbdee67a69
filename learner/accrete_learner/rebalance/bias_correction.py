"""BiC's bias correction (Wu et al., Large Scale Incremental Learning, CVPR 2019, section 4.2).

Shapes: V calibration examples, C classes in all.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from accrete_learner import evaluate
from accrete_learner.rebalance.base import Trained


@dataclass(frozen=True, kw_only=True)
class BiasCorrection:
    """New classes' scores s become `alpha * s + beta`, fitted on examples that training did not use.

    All else stays as it is. The step's version predicts with the corrected scores, and they distil the next step.
    """

    calibration_share: float = 0.1
    """Share of an old class's exemplars, and as many of each new class (section 5.1: train to validation is 9 to 1)."""
    needs_exemplars: bool = True
    iterations: int = 50
    """Of L-BFGS on the two numbers, with all calibration examples at once. The problem is convex, so the optimum does
    not depend on the optimiser; the ports' Adam and SGD stop at different points before it."""

    def resized(self, *, epochs: float, learning_rate: float, batch_size: int, copies: int | None = None) -> Self:
        return self

    def __call__(self, trained: Trained) -> list[float]:
        head, calibration_split = trained.network.head, trained.calibration_split
        if calibration_split is None or not len(head.new_rows):
            return []
        with torch.no_grad():
            scores = head(evaluate.extract(trained.network.backbone, calibration_split.x, group=trained.group))
        gain, offset, loss = fit(scores, calibration_split.y, len(head.old_rows), iterations=self.iterations)
        head.correct_new(gain, offset)
        trained.report(1, 1, loss)
        return [loss]


def fit(scores: Tensor, labels: Tensor, old_count: int, *, iterations: int) -> tuple[Tensor, Tensor, float]:
    """Return the scalars alpha and beta (equation 4) with the least cross-entropy (equation 5), and its value.

    alpha is kept above 0, because a correction must not reverse the order of the new classes.

    Args:
        scores: [V, C].
        labels: [V] int64.
        old_count: the first this many classes are old.
        iterations: of L-BFGS.
    """
    log_gain = scores.new_zeros((), requires_grad=True)
    offset = scores.new_zeros((), requires_grad=True)
    optimizer = torch.optim.LBFGS([log_gain, offset], max_iter=iterations, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        new = log_gain.exp() * scores[:, old_count:] + offset
        return F.cross_entropy(torch.cat((scores[:, :old_count], new), dim=1), labels)

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        torch.autograd.backward(value)
        return value

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        return log_gain.exp().detach(), offset.detach(), float(loss())
