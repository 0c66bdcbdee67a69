"""Random crops and mirror images of a whole batch at once, on the batch's own device, as uint8.

Source: pad by 4 of 32 pixels, crop, flip, as in every paper reproduced here (He et al., CVPR 2016, section 4.2).
Shapes: N examples, H x W pixels, C channels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from accrete_learner.config import Augmentation as Choice


@dataclass(frozen=True, kw_only=True, slots=True)
class Augmentation:
    """What may be done to an image without changing its class."""

    crops: bool
    """Move it by up to an eighth of its size up or down and left or right; what comes in is black."""
    flips: bool
    """Mirror it left to right, with probability one half."""

    def apply(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """uint8 [N, H, W, C] -> the same shape, drawn anew; vectors [N, d] stay as they are."""
        if batch.dim() != 4 or not (self.crops or self.flips):
            return batch
        count, height, width, _ = batch.shape
        device = batch.device
        across = torch.arange(width, device=device).expand(count, width)
        rows = torch.arange(height, device=device).expand(count, height)
        if self.flips:
            mirrored = _draw(2, count, generator, device) == 1
            across = torch.where(mirrored, width - 1 - across, across)
        if self.crops:
            pad_y, pad_x = max(1, height // 8), max(1, width // 8)
            batch = F.pad(batch, (0, 0, pad_x, pad_x, pad_y, pad_y))
            rows = rows + _draw(2 * pad_y + 1, count, generator, device)
            across = across + _draw(2 * pad_x + 1, count, generator, device)
        image = torch.arange(count, device=device)
        return batch[image[:, None, None], rows[:, :, None], across[:, None, :]]


def build(choice: Choice) -> Augmentation:
    """The augmentation called `choice`; `auto` is the papers', crops and mirror images.

    Raises:
        ValueError: when there is none of that name.
    """
    if choice not in ("auto", "none", "crop", "crop_flip"):
        raise ValueError(f"augmentation = {choice!r}: must be auto, none, crop or crop_flip")
    return Augmentation(crops=choice != "none", flips=choice in ("auto", "crop_flip"))


def _draw(below: int, count: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """[N, 1] integers from 0 to `below` - 1."""
    return torch.randint(below, (count, 1), generator=generator, device=generator.device).to(device)
