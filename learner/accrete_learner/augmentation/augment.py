"""Random changes of a whole batch at once, on the batch's own device, that do not change an image's class.

Sources: pad by 4 of 32 pixels, crop and flip, as in every paper reproduced here (He et al., CVPR 2016, section 4.2);
the twelve variants of Castro et al. (ECCV 2018, section 4.2); Cutout (DeVries and Taylor, 2017). AutoAugment and
TrivialAugment are in modules of their own.
Shapes: N examples, H x W pixels, C channels; uint8, or floats from 0 to 255 for exemplars that keep fractions of grey
levels.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from accrete_learner.augmentation import auto_augment, trivial_augment
from accrete_learner.augmentation.draws import Draws
from accrete_learner.config import Augmentation as Choice
from accrete_learner.ranks import ALONE, Shard


@dataclass(frozen=True, kw_only=True, slots=True)
class Augmentation:
    """What may be done to an image without changing its class."""

    crops: bool
    """Move it by up to an eighth of its size up or down and left or right. The pixels that come in are black."""
    flips: bool
    """Mirror it left to right, with probability one half."""
    crop_share: float = 1.0
    """Share of the images that are moved, one half among EEIL's twelve variants."""
    light: bool = False
    """Change the brightness by up to 63 of 255 (a third of the images), or the contrast by a factor of 0.2 to 1.8
    (another third; EEIL, section 4.2)."""
    policy: Literal["none", "auto", "trivial"] = "none"
    """Apply one of AutoAugment's sub-policies for CIFAR-10, or one operation of TrivialAugment."""
    cutout: bool = False
    """Black out a square of half the height about a random point, as for CIFAR-10 (16 of 32 pixels). The square may
    reach beyond the image."""

    def apply(
        self,
        batch: Tensor,
        generator: torch.Generator,
        mirrored: Tensor | None = None,
        shard: Shard | None = None,
    ) -> Tensor:
        """Return the batch [N, H, W, C] changed at random, in its shape and type. Vectors [N, d] stay as they are.

        Args:
            batch: uint8, or floats.
            generator: source of all random numbers.
            mirrored: [N] bool, which images of the whole batch to mirror, in place of a draw. Has no effect without
                `flips`.
            shard: what share of a whole batch these images are. Numbers are drawn for the whole one.
        """
        if batch.dim() != 4:
            return batch
        draws = Draws(generator, ALONE.shard(len(batch)) if shard is None else shard, batch.device)
        if self.crops or self.flips:
            batch = self._moved(batch, draws, mirrored)
        if self.policy != "none":
            batch = _POLICIES[self.policy](batch, draws)
        if self.light:
            batch = _relit(batch, draws)
        return _cut(batch, draws) if self.cutout else batch

    def _moved(self, batch: Tensor, draws: Draws, mirrored: Tensor | None) -> Tensor:
        count, height, width, channels = batch.shape
        device = batch.device
        across = torch.arange(width, device=device).expand(count, width)
        rows = torch.arange(height, device=device).expand(count, height)
        if self.flips:
            turned = draws.integers(2) == 1 if mirrored is None else mirrored[draws.shard.rows, None]
            across = torch.where(turned, width - 1 - across, across)
        if self.crops:
            pad_y, pad_x = max(1, height // 8), max(1, width // 8)
            batch = F.pad(batch, (0, 0, pad_x, pad_x, pad_y, pad_y))
            down, right = draws.integers(2 * pad_y + 1), draws.integers(2 * pad_x + 1)
            if self.crop_share < 1:
                moves = draws.uniform() < self.crop_share
                down, right = torch.where(moves, down, pad_y), torch.where(moves, right, pad_x)
            rows, across = rows + down, across + right
        # One look-up of whole pixels in a flat row of them is three times as fast on a CPU as three indices at once.
        image = torch.arange(count, device=device)[:, None] * batch.shape[1]
        pixel = (image + rows)[:, :, None] * batch.shape[2] + across[:, None, :]
        flat = batch.reshape(-1, channels).index_select(0, pixel.reshape(-1))
        return flat.view(count, height, width, channels)


_POLICIES = {"auto": auto_augment.apply, "trivial": trivial_augment.apply}

CHOICES: dict[Choice, Augmentation] = {
    "auto": Augmentation(crops=True, flips=True),
    "none": Augmentation(crops=False, flips=False),
    "crop": Augmentation(crops=True, flips=False),
    "crop_flip": Augmentation(crops=True, flips=True),
    "eeil": Augmentation(crops=True, flips=True, crop_share=0.5, light=True),
    "strong": Augmentation(crops=True, flips=True, policy="auto", cutout=True),
    "trivial": Augmentation(crops=True, flips=True, policy="trivial"),
}


def build(choice: Choice) -> Augmentation:
    """Return the augmentation called `choice`, where `auto` is the papers', crops and mirror images.

    Raises:
        ValueError: when there is none of that name.
    """
    if choice not in CHOICES:
        raise ValueError(f"augmentation = {choice!r}: must be {', '.join(get_args(Choice))}")
    return CHOICES[choice]


def _relit(batch: Tensor, draws: Draws) -> Tensor:
    kind = draws.integers(3)
    brighter = torch.where(kind == 1, 126 * draws.uniform() - 63, 0.0)
    contrast = torch.where(kind == 2, 0.2 + 1.6 * draws.uniform(), 1.0)
    images = batch.float()
    # Contrast turns about each image's own mean, so that it is not a change of brightness too.
    means = images.mean(dim=(1, 2, 3), keepdim=True)
    changed = (images - means) * contrast[:, :, None, None] + means + brighter[:, :, None, None]
    changed = changed.clamp_(0, 255)
    return changed.to(batch.dtype) if batch.is_floating_point() else changed.round_().to(batch.dtype)


def _cut(batch: Tensor, draws: Draws) -> Tensor:
    height, width = batch.shape[1:3]
    half = max(1, height // 4)
    y, x = draws.integers(height), draws.integers(width)
    rows = (torch.arange(height, device=batch.device) - y).abs_() < half
    columns = (torch.arange(width, device=batch.device) - x).abs_() < half
    return batch.masked_fill((rows[:, :, None] & columns[:, None, :])[..., None], 0)
