"""TrivialAugment with its wide space (Müller and Hutter, ICCV 2021, table 3), on whole batches.

Each image gets one operation of fourteen, drawn for it, and a sign where the operation has one. The strength is drawn
for a batch and operation, so that a batch takes two dozen calls in place of one an image; over many batches each image
sees all strengths.
Shapes: N examples, H x W pixels, C channels.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from accrete_learner.augmentation.draws import Draws

_STEPS = 30
"""Strengths are 0 to this many steps."""
_MOST = 0.99
"""Of shearing, and of what brightness, colour, contrast and sharpness change by."""
_MOST_PIXELS = 32
_MOST_DEGREES = 135
_LEAST_BITS = 2

OPERATIONS = (
    "identity",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
    "rotate",
    "brightness",
    "color",
    "contrast",
    "sharpness",
    "posterize",
    "solarize",
    "autocontrast",
    "equalize",
)
_SIGNED = frozenset(OPERATIONS[1:10])


def apply(batch: Tensor, draws: Draws) -> Tensor:
    """Return the batch [N, H, W, C], in its shape and type, after an operation drawn for each image.

    Floats are rounded to whole grey levels first, because half of the operations work on those. Images are grouped on
    the host, from numbers drawn there, so that nothing waits for a GPU.
    """
    host = torch.Generator().manual_seed(draws.seed())
    count, own = (draws.shard.count,), draws.shard.rows
    chosen = torch.randint(len(OPERATIONS), count, generator=host)[own]
    signs = torch.randint(2, count, generator=host)[own] * 2 - 1
    steps = torch.randint(_STEPS + 1, (len(OPERATIONS), 2), generator=host)
    images = (batch.round().to(torch.uint8) if batch.is_floating_point() else batch).permute(0, 3, 1, 2).contiguous()
    for index, name in enumerate(OPERATIONS):
        for at, sign in enumerate((1, -1) if name in _SIGNED else (0,)):
            rows = ((chosen == index) & ((signs == sign) | (sign == 0))).nonzero().squeeze(1).to(images.device)
            if len(rows):
                images[rows] = operate(images[rows], name, int(steps[index, at]) / _STEPS, sign)
    return images.permute(0, 2, 3, 1).to(batch.dtype)


def operate(images: Tensor, name: str, share: float, sign: int) -> Tensor:
    """Return uint8 [n, C, H, W] after an operation at a share of its greatest strength."""
    # Importing torchvision takes over a second, and only this needs it.
    from torchvision.transforms.v2 import functional as T

    if name == "color" and images.shape[1] != 3:
        return images
    shear = math.degrees(math.atan(sign * _MOST * share))
    move = int(sign * _MOST_PIXELS * share)
    factor = 1 + sign * _MOST * share
    # Shearing keeps the first pixel where it is, as in Pillow's operations, which the paper used.
    operations: dict[str, Callable[[], Any]] = {
        "identity": lambda: images,
        "shear_x": lambda: T.affine(images, 0, [0, 0], 1, [shear, 0], center=[0, 0]),
        "shear_y": lambda: T.affine(images, 0, [0, 0], 1, [0, shear], center=[0, 0]),
        "translate_x": lambda: T.affine(images, 0, [move, 0], 1, [0, 0]),
        "translate_y": lambda: T.affine(images, 0, [0, move], 1, [0, 0]),
        "rotate": lambda: T.rotate(images, sign * _MOST_DEGREES * share),
        "brightness": lambda: T.adjust_brightness(images, factor),
        "color": lambda: T.adjust_saturation(images, factor),
        "contrast": lambda: T.adjust_contrast(images, factor),
        "sharpness": lambda: T.adjust_sharpness(images, factor),
        "posterize": lambda: T.posterize(images, 8 - round((8 - _LEAST_BITS) * share)),
        "solarize": lambda: T.solarize(images, 255 * (1 - share)),
        "autocontrast": lambda: T.autocontrast(images),
        "equalize": lambda: T.equalize(images),
    }
    found: Tensor = operations[name]()
    return found
