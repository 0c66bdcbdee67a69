"""Augmentation moves and mirrors images and does nothing else to them."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from accrete_learner.augmentation import augment
from accrete_learner.config import Augmentation


def images(count: int, size: int, channels: int = 3) -> torch.Tensor:
    """uint8 without black pixels, so that what comes in from outside can be told."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(1, 256, (count, size, size, channels), dtype=torch.uint8, generator=generator)


def variants(image: torch.Tensor, pad: int, *, flips: bool) -> set[bytes]:
    """All that may become of one image [S, S, C], by direct slicing."""
    size = len(image)
    found = set()
    for base in (image, image.flip(1)) if flips else (image,):
        padded = F.pad(base, (0, 0, pad, pad, pad, pad))
        for down in range(2 * pad + 1):
            for across in range(2 * pad + 1):
                found.add(padded[down : down + size, across : across + size].numpy().tobytes())
    return found


@pytest.mark.parametrize(("size", "pad"), [(8, 1), (16, 2), (32, 4)])
@pytest.mark.parametrize("choice", ["crop", "crop_flip"])
def test_an_image_becomes_one_of_its_own_shifts(size: int, pad: int, choice: Augmentation, generator: torch.Generator):
    batch = images(6, size)
    result = augment.build(choice).apply(batch, generator)
    assert (result.dtype, result.shape) == (batch.dtype, batch.shape)
    for before, after in zip(batch, result, strict=True):
        assert after.numpy().tobytes() in variants(before, pad, flips=choice == "crop_flip")


def test_all_shifts_and_both_sides_turn_up(generator: torch.Generator):
    image = images(1, 8, channels=1)
    result = augment.build("auto").apply(image.expand(1000, 8, 8, 1), generator)
    assert {after.numpy().tobytes() for after in result} == variants(image[0], 1, flips=True)


def test_none_changes_nothing_and_vectors_are_never_changed(generator: torch.Generator):
    batch, vectors = images(4, 8), torch.randn(4, 5, generator=generator)
    assert augment.build("none").apply(batch, generator) is batch
    assert augment.build("auto").apply(vectors, generator) is vectors


def test_the_same_seed_draws_the_same(generator: torch.Generator):
    batch, same = images(16, 8), torch.Generator().manual_seed(0)
    apply = augment.build("crop_flip").apply
    first = apply(batch, generator)
    assert torch.equal(first, apply(batch, same))
    assert not torch.equal(first, apply(batch, generator))


def test_an_empty_batch_stays_empty(generator: torch.Generator):
    assert augment.build("auto").apply(images(0, 8), generator).shape == (0, 8, 8, 3)


def test_an_unknown_augmentation_is_refused():
    with pytest.raises(ValueError, match="augmentation = 'cutout'"):
        augment.build("cutout")  # type: ignore[arg-type]


def test_eeils_variants_come_equally_often_and_stay_in_their_ranges(generator: torch.Generator):
    x = torch.full((6000, 8, 8, 1), 100, dtype=torch.uint8)
    x[:, :, :4] = 140
    seen = augment.build("eeil").apply(x, generator).float()
    # The middle rows tell light and contrast apart from what a crop brings in.
    middle = seen[:, 4, 2:6, 0]
    spread, level = middle.max(dim=1).values - middle.min(dim=1).values, middle.mean(dim=1)
    plain_contrast = (spread - 40).abs() < 1
    contrasted = (~plain_contrast).float().mean()
    assert 0.25 < contrasted < 0.42
    assert spread[spread > 0].min() >= 0.2 * 40 - 1.5
    assert spread.max() <= 1.8 * 40 + 1.5
    assert (level[plain_contrast] - 120).abs().max() <= 63 + 20.5
    whole = (seen[:, 0, :, 0] > 0).all(dim=1) & (seen[:, -1, :, 0] > 0).all(dim=1)
    assert 0.45 < whole.float().mean() < 0.75


@pytest.mark.parametrize("choice", ["eeil", "strong"])
@pytest.mark.parametrize(("size", "channels"), [(8, 1), (9, 3), (32, 3), (64, 3)])
def test_every_form_of_image_keeps_its_form(choice: Augmentation, size: int, channels: int, generator: torch.Generator):
    x = images(7, size, channels)
    for batch in (x, x.half()):
        seen = augment.build(choice).apply(batch, generator)
        assert (seen.shape, seen.dtype) == (batch.shape, batch.dtype)
        assert seen.min() >= 0
        assert seen.max() <= 255


def test_cutout_blackens_a_square_of_half_the_height(generator: torch.Generator):
    x = torch.full((4000, 16, 16, 3), 255, dtype=torch.uint8)
    black = Cutout.apply(x, generator)[..., 0] == 0
    rows, columns = black.any(dim=2).sum(dim=1), black.any(dim=1).sum(dim=1)
    assert int(rows.max()) <= 8
    assert torch.equal(rows * columns, black.sum(dim=(1, 2)))
    assert 0.15 < black.float().mean() < 0.25


Cutout = augment.Augmentation(crops=False, flips=False, cutout=True)


def test_fractions_of_grey_levels_pass_crops_and_flips_with_their_gradient(generator: torch.Generator):
    x = images(4, 8).float().add(0.25).requires_grad_()
    seen = augment.build("crop_flip").apply(x, generator)
    torch.autograd.backward(seen.sum())
    assert x.grad is not None
    assert set(x.grad.flatten().tolist()) <= {0.0, 1.0}
