"""AutoAugment on batches: the published policy, and for each image what it would get alone."""

from __future__ import annotations

import pytest
import torch
from torchvision.transforms import autoaugment

from accrete_learner.augmentation import auto_augment
from accrete_learner.augmentation.draws import Draws
from accrete_learner.ranks import ALONE

NAMES = {
    "ShearX": "shear_x",
    "ShearY": "shear_y",
    "TranslateX": "translate_x",
    "TranslateY": "translate_y",
    "Rotate": "rotate",
    "AutoContrast": "autocontrast",
}


def test_the_policy_is_the_published_one() -> None:
    peer = autoaugment.AutoAugment(autoaugment.AutoAugmentPolicy.CIFAR10)
    for ours, theirs in zip(auto_augment.POLICY, peer.policies, strict=True):
        for (name, probability, level), (peer_name, peer_probability, peer_level) in zip(ours, theirs, strict=True):
            assert name == NAMES.get(peer_name, peer_name.lower())
            assert probability == peer_probability
            # Operations without a magnitude have none there.
            assert peer_level is None or level == peer_level


@pytest.mark.parametrize("operation", sorted({name for pair in auto_augment.POLICY for name, _, _ in pair}))
@pytest.mark.parametrize("channels", [1, 3])
def test_a_group_gets_what_each_of_its_images_would_get_alone(operation: str, channels: int) -> None:
    images = torch.randint(256, (5, channels, 12, 12), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    for sign in (1, -1):
        together = auto_augment._operate(images, operation, 7, sign)
        alone = torch.cat([auto_augment._operate(image[None], operation, 7, sign) for image in images])
        assert together.dtype == torch.uint8
        assert torch.equal(together, alone)


def test_the_same_state_draws_the_same_and_most_images_change() -> None:
    x = torch.randint(256, (64, 16, 16, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    draws = (Draws(torch.Generator().manual_seed(seed), ALONE.shard(len(x)), x.device) for seed in (1, 1, 2))
    first, again, other = (auto_augment.apply(x, own) for own in draws)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert (first != x).flatten(1).any(dim=1).float().mean() > 0.6
