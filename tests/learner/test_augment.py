"""Augmentation moves and mirrors images and does nothing else to them."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from accrete_learner import augment
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
