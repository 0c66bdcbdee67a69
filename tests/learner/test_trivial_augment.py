"""TrivialAugment on batches: torchvision's own, at every strength, for groups of images."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from torchvision.transforms import InterpolationMode, autoaugment

from accrete_learner.augmentation import trivial_augment
from accrete_learner.augmentation.draws import Draws
from accrete_learner.ranks import ALONE

NAMES = {
    "identity": "Identity",
    "shear_x": "ShearX",
    "shear_y": "ShearY",
    "translate_x": "TranslateX",
    "translate_y": "TranslateY",
    "autocontrast": "AutoContrast",
}


def images(count: int, side: int = 32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(count, 3, 4, 4, generator=generator)
    return (F.interpolate(coarse, side, mode="bilinear") * 255).to(torch.uint8)


def draws(batch: torch.Tensor, seed: int) -> Draws:
    return Draws(torch.Generator().manual_seed(seed), ALONE.shard(len(batch)), batch.device)


@pytest.mark.parametrize("operation", trivial_augment.OPERATIONS)
def test_each_operation_is_torchvisions(operation: str) -> None:
    name = NAMES.get(operation, operation.capitalize())
    strengths, signed = autoaugment.TrivialAugmentWide()._augmentation_space(31)[name]
    batch = images(4)
    for step in (0, 7, 20, 30):
        for sign in (1, -1) if signed else (1,):
            strength = sign * float(strengths[step]) if strengths.dim() else 0.0
            peer = autoaugment._apply_op(batch, name, strength, InterpolationMode.NEAREST, None)
            ours = trivial_augment.operate(batch, operation, step / 30, sign)
            assert ours.dtype == torch.uint8
            # The peer rounds down where ours rounds.
            assert ((ours.int() - peer.int()).abs() > 1).float().mean() < 0.01, (step, sign)


def test_the_same_state_draws_the_same_and_images_change_unless_they_drew_to_stay() -> None:
    x = images(280).permute(0, 2, 3, 1).contiguous()
    first, again, other = (trivial_augment.apply(x, draws(x, seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert 0.6 < (first != x).flatten(1).any(dim=1).float().mean() < 0.98
    assert torch.equal(x, images(280).permute(0, 2, 3, 1)), "what was given stays as it is"


def test_floats_and_grey_images_are_taken_too() -> None:
    x = images(64).permute(0, 2, 3, 1)
    grey = x[..., :1].contiguous()
    assert trivial_augment.apply(grey, draws(x, 1)).shape == grey.shape
    floats = trivial_augment.apply(x.float(), draws(x, 1))
    assert floats.dtype == torch.float32
    assert torch.equal(floats.to(torch.uint8), trivial_augment.apply(x.contiguous(), draws(x, 1)))
