"""What every head shares: the rows of old classes, the rows of new ones, and how both are written out.

Shapes: N examples, d feature length, O classes known before the step, C classes in all.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn


class Head(nn.Module, ABC):
    """Class scores from features. Old rows come first and keep their order, so a label never changes its index.

    The two groups of rows are parameters of their own: a frozen group then gets neither gradient nor weight decay.
    """

    kind: ClassVar[str]

    def __init__(self, old_rows: Tensor, new_rows: Tensor) -> None:
        """`old_rows` [O, d] and `new_rows` [C - O, d]; either may be empty. Both are copied."""
        super().__init__()
        self.old_rows = nn.Parameter(old_rows.detach().clone())
        self.new_rows = nn.Parameter(new_rows.detach().clone())

    @property
    def weight(self) -> Tensor:
        """All rows, [C, d]."""
        return torch.cat((self.old_rows, self.new_rows))

    def freeze_old(self, frozen: bool = True) -> None:
        """Leave the old classes' rows as they are while the rest learns, or let them learn again."""
        self.old_rows.requires_grad_(not frozen)

    @abstractmethod
    def forward(self, features: Tensor) -> Tensor:
        """Scores [N, C] of float32 `features` [N, d]."""

    @abstractmethod
    def export(self) -> dict[str, Tensor]:
        """The head as an artifact holds it: detached copies under the names of `head.safetensors`."""

    def _exported_rows(self) -> Tensor:
        return self.weight.detach().clone()
