"""Many numbers become fewer features, whitened within classes, and few examples do no harm."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from accrete_learner.backbones.whitening import Whitening

W = 12


def examples(count: int, classes: int = 4) -> tuple[Tensor, Tensor]:
    """Classes that differ little in all numbers, beside variance that all classes share in some directions."""
    generator = torch.Generator().manual_seed(2)
    y = torch.arange(count) % classes
    shared = torch.randn(count, 3, generator=generator) @ torch.randn(3, W, generator=generator) * 5
    own = torch.randn(classes, W, generator=generator)[y]
    return own + shared + 0.5 * torch.randn(count, W, generator=generator) + 7, y


def covariance_within(x: Tensor, y: Tensor) -> Tensor:
    within = torch.cat([x[y == label] - x[y == label].mean(dim=0) for label in range(int(y.max()) + 1)])
    return within.T @ within / len(within)


def test_the_covariance_within_classes_becomes_the_identity_as_far_as_the_shrinkage_lets_it() -> None:
    x, y = examples(4000)
    found = torch.linalg.eigvalsh(covariance_within(Whitening.of(x, y, W)(x), y))
    # Directions with less than the shrinkage of 3 % are drawn out less.
    assert found.max() == pytest.approx(1, abs=0.05)
    assert found.min() > 0.05
    assert torch.linalg.eigvalsh(covariance_within((x - x.mean(0)) / x.std(0), y)).min() < 0.01


def test_nearest_means_by_cosine_tell_more_examples_apart() -> None:
    x, y = examples(800)
    x, y, unseen, of_unseen = x[:400], y[:400], x[400:], y[400:]

    def right(x: Tensor, unseen: Tensor) -> float:
        means = F.normalize(torch.stack([F.normalize(x[y == label]).mean(dim=0) for label in range(4)]))
        return float((F.normalize(unseen) @ means.T).argmax(dim=1).eq(of_unseen).float().mean())

    whitening = Whitening.of(x, y, W)
    assert right(whitening(x), whitening(unseen)) > 0.9 > 0.7 > right(x - x.mean(0), unseen - x.mean(0))


@pytest.mark.parametrize("count", [1, 2, 4, 9])
def test_few_examples_and_numbers_that_never_vary_leave_finite_ones(count: int) -> None:
    x, y = examples(count)
    x[:, 2] = 1.5
    whitening = Whitening.of(x, y, 10)
    features = whitening(examples(50)[0])
    assert features.shape == (50, 10)
    assert torch.isfinite(features).all()
    if count <= 4:  # one example per class at most: nothing varies within one, and there is nothing to whiten by
        torch.testing.assert_close(whitening.unwhitening @ whitening.unwhitening.T, torch.eye(10))


@pytest.mark.parametrize("length", [W, 5])
def test_unwhitening_gives_the_standardised_numbers_back_as_far_as_the_components_hold_them(length: int) -> None:
    x, y = examples(100)
    whitening = Whitening.of(x, y, length)
    standardised = (x - x.mean(dim=0)) / x.std(dim=0, correction=0)
    u, s, v = torch.linalg.svd(standardised, full_matrices=False)
    wanted = (u * s)[:, :length] @ v[:length]
    torch.testing.assert_close(whitening(x) @ whitening.unwhitening, wanted, rtol=1e-3, atol=1e-3)


def test_another_order_of_the_examples_gives_the_same_numbers_back() -> None:
    x, y = examples(100)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(4))
    one, other = Whitening.of(x, y, 5), Whitening.of(x[order], y[order], 5)
    torch.testing.assert_close(other(x) @ other.unwhitening, one(x) @ one.unwhitening, rtol=1e-4, atol=1e-4)
