"""The cosine head of LUCIR (Hou et al., CVPR 2019, section 3.2), in which no class is favoured by its row's length."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from accrete_learner.heads.base import Head


def cosines(features: Tensor, rows: Tensor) -> Tensor:
    """Return the cosine [N, C] of every feature [N, d] with every row [C, d]."""
    return F.linear(F.normalize(features, dim=1), F.normalize(rows, dim=1))


class CosineHead(Head):
    """Scores `scale * cos(features, weight)`.

    The scale is learnt, is the same for all classes, and is carried on from step to step. A correction of the bias
    towards new classes adds a gain and an offset per class. These are not learnt further, and cannot be folded into the
    rows because a cosine does not depend on their length.
    """

    kind: ClassVar[str] = "cosine"
    gain: Tensor
    offset: Tensor

    def __init__(self, old_rows: Tensor, new_rows: Tensor, scale: Tensor) -> None:
        """Copy the rows, as `Head` does, and `scale` [1]."""
        super().__init__(old_rows, new_rows)
        self.scale = nn.Parameter(scale.detach().clone())
        self.register_buffer("gain", old_rows.new_ones(len(old_rows) + len(new_rows)))
        self.register_buffer("offset", old_rows.new_zeros(len(old_rows) + len(new_rows)))
        self._corrected = False

    def restore_correction(self, gain: Tensor, offset: Tensor) -> None:
        """Set the gain and offset [O] of the old classes, as an earlier step left them."""
        self.gain[: len(gain)], self.offset[: len(offset)] = gain, offset
        self._corrected = True

    def forward(self, features: Tensor) -> Tensor:
        scores = self.scale * cosines(features, self.weight)
        return self.gain * scores + self.offset if self._corrected else scores

    @torch.no_grad()
    def correct_new(self, gain: Tensor, offset: Tensor) -> None:
        first = len(self.old_rows)
        self.gain[first:] *= gain
        self.offset[first:] = self.offset[first:] * gain + offset
        self._corrected = True

    def export(self) -> dict[str, Tensor]:
        exported = {**self._exported_rows(), "scale": self.scale.detach().clone()}
        if self._corrected:
            exported |= {"gain": self.gain.clone(), "bias": self.offset.clone()}
        return exported


def initial_scale() -> Tensor:
    """Return the scale that a first step starts from, 1 as in LUCIR's code. The paper does not give it."""
    return torch.ones(1)
