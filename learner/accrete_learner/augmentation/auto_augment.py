"""AutoAugment's policy for CIFAR-10 (Cubuk et al., CVPR 2019, table 7 of the appendix), on whole batches.

Each image gets one of 25 sub-policies of two operations. Images that drew the same operation with the same sign go
through it together, so a batch takes tens of calls in place of hundreds.
Shapes: N examples, H x W pixels, C channels.
"""

from typing import Any

import torch
from torch import Tensor

from accrete_learner.augmentation.draws import Draws

#: (operation, probability, magnitude 0 to 9) twice for each sub-policy.
POLICY: tuple[tuple[tuple[str, float, int], tuple[str, float, int]], ...] = (
    (("invert", 0.1, 7), ("contrast", 0.2, 6)),
    (("rotate", 0.7, 2), ("translate_x", 0.3, 9)),
    (("sharpness", 0.8, 1), ("sharpness", 0.9, 3)),
    (("shear_y", 0.5, 8), ("translate_y", 0.7, 9)),
    (("autocontrast", 0.5, 8), ("equalize", 0.9, 2)),
    (("shear_y", 0.2, 7), ("posterize", 0.3, 7)),
    (("color", 0.4, 3), ("brightness", 0.6, 7)),
    (("sharpness", 0.3, 9), ("brightness", 0.7, 9)),
    (("equalize", 0.6, 5), ("equalize", 0.5, 1)),
    (("contrast", 0.6, 7), ("sharpness", 0.6, 5)),
    (("color", 0.7, 7), ("translate_x", 0.5, 8)),
    (("equalize", 0.3, 7), ("autocontrast", 0.4, 8)),
    (("translate_y", 0.4, 3), ("sharpness", 0.2, 6)),
    (("brightness", 0.9, 6), ("color", 0.2, 8)),
    (("solarize", 0.5, 2), ("invert", 0.0, 3)),
    (("equalize", 0.2, 0), ("autocontrast", 0.6, 0)),
    (("equalize", 0.2, 8), ("equalize", 0.6, 4)),
    (("color", 0.9, 9), ("equalize", 0.6, 6)),
    (("autocontrast", 0.8, 4), ("solarize", 0.2, 8)),
    (("brightness", 0.1, 3), ("color", 0.7, 0)),
    (("solarize", 0.4, 5), ("autocontrast", 0.9, 3)),
    (("translate_y", 0.9, 9), ("translate_y", 0.7, 9)),
    (("autocontrast", 0.9, 2), ("solarize", 0.8, 3)),
    (("equalize", 0.8, 8), ("invert", 0.1, 3)),
    (("translate_y", 0.7, 9), ("autocontrast", 0.9, 1)),
)
_SIGNED = frozenset(
    {"rotate", "shear_x", "shear_y", "translate_x", "translate_y", "color", "contrast", "brightness", "sharpness"}
)
_STEPS = 9.0
_GREY = 128


def apply(batch: Tensor, draws: Draws) -> Tensor:
    """Return the batch [N, H, W, C], in its shape and type, after a sub-policy drawn for each image.

    Floats are rounded to whole grey levels first, because half of the operations work on those. Images are grouped on
    the host, from numbers drawn there, so that nothing waits for a GPU.
    """
    host = torch.Generator().manual_seed(draws.seed())
    count, rows = (draws.shard.count,), draws.shard.rows
    chosen = torch.randint(len(POLICY), count, generator=host)[rows]
    images = batch.round().to(torch.uint8) if batch.is_floating_point() else batch
    images = images.permute(0, 3, 1, 2).contiguous()
    for turn in range(2):
        acts = torch.rand(count, generator=host)[rows]
        signs = torch.randint(2, count, generator=host)[rows]
        images = _turn(images, turn, chosen, acts, signs)
    return images.permute(0, 2, 3, 1).to(batch.dtype)


def _turn(images: Tensor, turn: int, chosen: Tensor, acts: Tensor, signs: Tensor) -> Tensor:
    """Apply the first or the second operation of every image's sub-policy."""
    groups: dict[tuple[str, int, int], list[Tensor]] = {}
    for index, pair in enumerate(POLICY):
        name, probability, level = pair[turn]
        does = (chosen == index) & (acts < probability)
        for sign in (0, 1) if name in _SIGNED else (0,):
            rows = (does & (signs == sign)) if name in _SIGNED else does
            if bool(rows.any()):
                groups.setdefault((name, level, sign), []).append(rows.nonzero().squeeze(1))
    changed = images.clone()
    for (name, level, sign), members in groups.items():
        own = torch.cat(members).to(images.device)
        changed[own] = _operate(images[own], name, level, -1 if sign else 1)
    return changed


def _operate(images: Tensor, name: str, level: int, sign: int) -> Any:
    """Apply one operation to uint8 [n, C, H, W], with the ranges of the paper's section 3.1 in 10 steps."""
    # Importing torchvision takes over a second, and only this needs it.
    from torchvision.transforms.v2 import functional as T

    share, height, width = level / _STEPS, images.shape[2], images.shape[3]
    grey = [_GREY] * images.shape[1]
    match name:
        case "shear_y":
            return T.affine(images, angle=0, translate=[0, 0], scale=1, shear=[0, sign * 17.2 * share], fill=grey)
        case "translate_x":
            # 150 pixels of 331 in the paper's reference.
            return T.affine(images, 0, [round(sign * share * width * 150 / 331), 0], 1, [0, 0], fill=grey)
        case "translate_y":
            return T.affine(images, 0, [0, round(sign * share * height * 150 / 331)], 1, [0, 0], fill=grey)
        case "rotate":
            return T.rotate(images, sign * 30 * share, fill=grey)
        case "color" if images.shape[1] == 3:
            return T.adjust_saturation(images, 1 + sign * 0.9 * share)
        case "brightness":
            return T.adjust_brightness(images, 1 + sign * 0.9 * share)
        case "contrast":
            return T.adjust_contrast(images, 1 + sign * 0.9 * share)
        case "sharpness":
            return T.adjust_sharpness(images, 1 + sign * 0.9 * share)
        case "posterize":
            return T.posterize(images, 8 - round(4 * share))
        case "solarize":
            return T.solarize(images, 256 - 256 * share)
        case "autocontrast":
            return T.autocontrast(images)
        case "equalize":
            return T.equalize(images)
        case "invert":
            return T.invert(images)
    return images
