"""A linear head on random features, which is solved for and not trained.

Sources: McDonnell et al., RanPAC (NeurIPS 2023), section 4.2; Zhuang et al., DS-AL (AAAI 2024), equation 18.

Shapes: N examples, d feature length, p random features, C classes.
"""

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from accrete_learner.heads.base import Head


def expand(features: Tensor, projection: Tensor) -> Tensor:
    """Return the random features [N, p] of features [N, d], which are relu(features @ projection)."""
    return (features @ projection).relu()


class RandomFeaturesHead(Head):
    """Scores `scale * (expand(features) @ weight.T + bias)`, with rows of length p.

    A head with a compensation [C, p] adds `scale * tanh(features @ projection) @ compensation.T`.

    As a teacher it scores like any other head. Its rows are not of the features' space, so a method that goes on from
    it starts its rows from the class means (`heads.grow`).
    """

    kind: ClassVar[str] = "random_features"
    bias: Tensor
    projection: Tensor
    scale: Tensor
    compensation: Tensor | None

    def __init__(
        self,
        old_rows: Tensor,
        new_rows: Tensor,
        bias: Tensor,
        projection: Tensor,
        scale: Tensor,
        compensation: Tensor | None = None,
    ) -> None:
        """Copy the rows of length p, as `Head` does, and `bias` [C], `projection` [d, p] and `scale` [1]."""
        super().__init__(old_rows, new_rows)
        given = {"bias": bias, "projection": projection, "scale": scale, "compensation": compensation}
        for name, tensor in given.items():
            self.register_buffer(name, None if tensor is None else tensor.detach().clone().to(old_rows.device))

    def forward(self, features: Tensor) -> Tensor:
        scores = F.linear(expand(features, self.projection), self.weight, self.bias)
        if self.compensation is not None:
            scores = scores + (features @ self.projection).tanh() @ self.compensation.T
        return self.scale * scores

    @torch.no_grad()
    def correct_new(self, gain: Tensor, offset: Tensor) -> None:
        first = len(self.old_rows)
        self.new_rows.mul_(gain)
        self.bias[first:] = self.bias[first:] * gain + offset / self.scale
        if self.compensation is not None:
            self.compensation[first:] *= gain

    def export(self) -> dict[str, Tensor]:
        exported = self._exported_rows() | {
            "bias": self.bias.clone(),
            "projection": self.projection.clone(),
            "scale": self.scale.clone(),
        }
        if self.compensation is not None:
            exported["compensation"] = self.compensation.clone()
        return exported
