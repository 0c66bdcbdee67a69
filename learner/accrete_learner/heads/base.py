"""The base of every head, with the rows of old and of new classes and their export.

Shapes: N examples, d feature length, O classes known before the step, C classes in all.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from itertools import groupby
from typing import ClassVar

import torch
from torch import Tensor, nn

#: Tensors of an exported head that do not have one row per class.
SHARED = frozenset({"scale", "projection"})


class Head(nn.Module, ABC):
    """Class scores from features. Old rows come first and keep their order, so a label never changes its index.

    The two groups of rows are parameters of their own, so that a frozen group gets neither gradient nor weight decay.
    """

    kind: ClassVar[str]

    def __init__(self, old_rows: Tensor, new_rows: Tensor) -> None:
        """Copy `old_rows` [O, d] and `new_rows` [C - O, d], either of which may be empty."""
        super().__init__()
        self.old_rows = nn.Parameter(old_rows.detach().clone())
        self.new_rows = nn.Parameter(new_rows.detach().clone())
        self.old_blocks: tuple[int, ...] = (len(old_rows),) if len(old_rows) else ()
        """Sizes of the groups in which the old classes came, one per step, oldest first (EEIL's linear blocks)."""

    @property
    def weight(self) -> Tensor:
        """All rows, [C, d]."""
        return torch.cat((self.old_rows, self.new_rows))

    def freeze_old(self, frozen: bool = True) -> None:
        """Leave the old classes' rows as they are while the rest learns, or let them learn again."""
        self.old_rows.requires_grad_(not frozen)

    def constrain(self) -> None:
        """Bring the rows back to their permitted range. Training calls this after each update."""

    @abstractmethod
    def forward(self, features: Tensor) -> Tensor:
        """Return the scores [N, C] of float32 `features` [N, d]."""

    @abstractmethod
    def correct_new(self, gain: Tensor, offset: Tensor) -> None:
        """Make every new class's score s into `gain * s + offset`, both scalars (BiC, section 4.2)."""

    @abstractmethod
    def export(self) -> dict[str, Tensor]:
        """Return detached copies of the head's tensors under the names of `head.safetensors`."""

    def _exported_rows(self) -> dict[str, Tensor]:
        new = len(self.new_rows)
        sizes = (*self.old_blocks, new) if new else self.old_blocks
        blocks = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes, dtype=torch.int64))
        return {"weight": self.weight.detach().clone(), "blocks": blocks.to(self.new_rows.device)}


def block_sizes(exported: Mapping[str, Tensor]) -> tuple[int, ...]:
    """Return the sizes of the groups in which the exported head's classes came, or one group if it does not say."""
    if "blocks" not in exported:
        return (len(exported["weight"]),)
    return tuple(len(list(group)) for _, group in groupby(exported["blocks"].tolist()))
