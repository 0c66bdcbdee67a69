"""The cosine head of LUCIR (Hou et al., CVPR 2019, section 3.2): the angle alone counts, no class wins by its norm."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from accrete_learner.heads.base import Head


def cosines(features: Tensor, rows: Tensor) -> Tensor:
    """Cosine of every feature [N, d] with every row [C, d]: [N, C]."""
    return F.linear(F.normalize(features, dim=1), F.normalize(rows, dim=1))


class CosineHead(Head):
    """`scores = scale * cos(features, weight)`; the scale is learnt, the same for all classes and carried on."""

    kind: ClassVar[str] = "cosine"

    def __init__(self, old_rows: Tensor, new_rows: Tensor, scale: Tensor) -> None:
        """Rows as in `Head`; `scale` [1]."""
        super().__init__(old_rows, new_rows)
        self.scale = nn.Parameter(scale.detach().clone())

    def forward(self, features: Tensor) -> Tensor:
        return self.scale * cosines(features, self.weight)

    def export(self) -> dict[str, Tensor]:
        return {"weight": self._exported_rows(), "scale": self.scale.detach().clone()}


def initial_scale() -> Tensor:
    """Scale of a first step: 1, as in LUCIR's code (the paper leaves it open); training raises it."""
    return torch.ones(1)
