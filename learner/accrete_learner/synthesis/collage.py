"""Collages, each of which shows four images of a class in the space of one.

Shapes: m exemplars of a class, H x W pixels, C channels.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from accrete_learner.synthesis.base import SYNTHESISED, Exemplars, Picked

_TILES = 4


@dataclass(frozen=True, kw_only=True)
class Collage:
    """Each exemplar shows four of its class's examples, two by two, so that m exemplars show up to 4m."""

    kind: Literal["resized", "random_crop", "centre_crop"]
    """What a tile shows. `resized` is the whole example at half its size, averaged over area. The crops are a part of
    half its height and width, from a random place or from the middle."""

    def __call__(self, picked: Picked) -> dict[int, Exemplars]:
        """Return collages of the fresh classes, as many as were picked of each.

        The picks come first, in their order. The other three quarters are drawn from the class's other examples, and
        some are repeated in a class without enough. A collage is deleted with any of the four examples that it shows.

        Raises:
            ValueError: for vectors, which have no parts to put side by side.
        """
        if picked.candidates.x.dim() != 4:
            raise ValueError(f"a collage is of images [N, H, W, C]; the examples are {list(picked.candidates.x.shape)}")
        made = {}
        for done, label in enumerate(picked.fresh_classes, start=1):
            count = len(picked.memory[label])
            if count:
                shown = self._shown(picked, label, count * _TILES).view(_TILES, count)
                x = self._joined(picked.candidates.x[shown], picked.generator)
                made[label] = Exemplars(x=x, source=torch.full_like(shown[0], SYNTHESISED), shown=shown.T)
            picked.report(done, len(picked.fresh_classes), 0.0)
        return made

    def _shown(self, picked: Picked, label: int, wanted: int) -> Tensor:
        """Return the indices [wanted] of the examples to show. The picks are first, so a memory cut short has them."""
        own = (picked.candidates.y == label).nonzero().squeeze(1)
        first = picked.memory[label]
        others = own[~torch.isin(own, first)]
        order = torch.randperm(len(others), generator=picked.generator, device=picked.generator.device)
        pool = torch.cat((first, others[order.to(others.device)]))
        return pool[torch.arange(wanted, device=pool.device) % len(pool)]

    def _joined(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Join [4, m, H, W, C] to m collages. With odd sizes the lower or right half is the larger one."""
        height, width = images.shape[2:4]
        rows, columns = (height // 2, height - height // 2), (width // 2, width - width // 2)
        parts = [self._tile(images[2 * i + j], rows[i], columns[j], generator) for i in (0, 1) for j in (0, 1)]
        upper, lower = torch.cat(parts[:2], dim=2), torch.cat(parts[2:], dim=2)
        return torch.cat((upper, lower), dim=1)

    def _tile(self, images: Tensor, height: int, width: int, generator: torch.Generator) -> Tensor:
        """Return tiles [m, height, width, C] of images [m, H, W, C], of the same type."""
        if self.kind == "resized":
            small = F.interpolate(images.permute(0, 3, 1, 2).float(), size=(height, width), mode="area")
            small = small.permute(0, 2, 3, 1)
            return small.to(images.dtype) if images.is_floating_point() else small.round().to(images.dtype)
        spare_y, spare_x = images.shape[1] - height, images.shape[2] - width
        if self.kind == "centre_crop":
            top = torch.full((len(images), 1), spare_y // 2, device=images.device)
            left = torch.full((len(images), 1), spare_x // 2, device=images.device)
        else:
            top = _draw(spare_y + 1, len(images), generator, images.device)
            left = _draw(spare_x + 1, len(images), generator, images.device)
        image = torch.arange(len(images), device=images.device)[:, None, None]
        rows = (torch.arange(height, device=images.device) + top)[:, :, None]
        columns = (torch.arange(width, device=images.device) + left)[:, None, :]
        return images[image, rows, columns]


def _draw(below: int, count: int, generator: torch.Generator, device: torch.device) -> Tensor:
    return torch.randint(below, (count, 1), generator=generator, device=generator.device).to(device)
