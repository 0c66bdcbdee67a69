"""The linear head, with a row and a bias per class."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from accrete_learner.heads.base import Head


class LinearHead(Head):
    """Scores `features @ weight.T + bias`."""

    kind: ClassVar[str] = "linear"

    def __init__(
        self, old_rows: Tensor, new_rows: Tensor, old_bias: Tensor, new_bias: Tensor, *, non_negative: bool = False
    ) -> None:
        """Copy the rows, as `Head` does, and the biases.

        Args:
            old_rows: [O, d].
            new_rows: [C - O, d].
            old_bias: [O].
            new_bias: [C - O].
            non_negative: whether `constrain` clips the rows at 0.
        """
        super().__init__(old_rows, new_rows)
        self._non_negative = non_negative
        self.old_bias = nn.Parameter(old_bias.detach().clone())
        self.new_bias = nn.Parameter(new_bias.detach().clone())

    @property
    def bias(self) -> Tensor:
        """All biases, [C]."""
        return torch.cat((self.old_bias, self.new_bias))

    def freeze_old(self, frozen: bool = True) -> None:
        super().freeze_old(frozen)
        self.old_bias.requires_grad_(not frozen)

    @torch.no_grad()
    def constrain(self) -> None:
        if self._non_negative:
            self.old_rows.clamp_(min=0)
            self.new_rows.clamp_(min=0)

    def forward(self, features: Tensor) -> Tensor:
        return F.linear(features, self.weight, self.bias)

    @torch.no_grad()
    def correct_new(self, gain: Tensor, offset: Tensor) -> None:
        # An affine map of linear scores is a linear score again, so nothing more has to be kept or served.
        self.new_rows.mul_(gain)
        self.new_bias.mul_(gain).add_(offset)

    def export(self) -> dict[str, Tensor]:
        return {**self._exported_rows(), "bias": self.bias.detach().clone()}
