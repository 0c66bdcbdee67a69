"""The closed form: one solution whatever the order, the joint one, and examples that can be taken out again."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import Ridge as Peer
from torch import Tensor
from torch.nn import functional as F

from accrete_learner import heads
from accrete_learner.heads import RandomFeaturesHead
from accrete_learner.ridge import Ridge, Statistics, keep_rows

RIDGE = Ridge(width=50, penalty=2.0)


def data(count: int = 60, classes: int = 5, length: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    y = torch.arange(count) % classes
    x = torch.randn(count, length, generator=generator) + 2 * torch.eye(classes, length)[y]
    return x, y


def learn(ridge: Ridge, parts: list[tuple[Tensor, Tensor]], seed: int = 1) -> RandomFeaturesHead:
    """Parts of examples in turn, whose classes are numbered as they come."""
    head, statistics, exported = None, None, None
    for x, y in parts:
        count = max(int(y.max()) + 1, 0 if exported is None else len(exported["weight"]))
        head, statistics = ridge.fit(
            x, y, count, parent_head=exported, statistics=statistics, generator=torch.Generator().manual_seed(seed)
        )
        exported = head.export()
    assert head is not None
    return head


def test_the_head_is_the_joint_ridge_solution() -> None:
    x, y = data()
    head = learn(RIDGE, [(x, y)])
    expanded = (x @ head.projection).relu().double().numpy()
    penalty = RIDGE.penalty * (expanded**2).mean()
    peer = Peer(alpha=penalty, solver="cholesky").fit(expanded, F.one_hot(y).numpy())
    np.testing.assert_allclose(head.weight.detach().numpy(), peer.coef_, rtol=2e-3, atol=2e-5)
    np.testing.assert_allclose(head.bias.numpy(), peer.intercept_, rtol=2e-3, atol=2e-5)


def test_steps_come_to_the_joint_solution_however_the_examples_are_spread_over_them() -> None:
    x, y = data()
    joint = learn(RIDGE, [(x, y)])
    two, mixed = y < 2, torch.arange(len(y)) % 3
    by_class = learn(RIDGE, [(x[two], y[two]), (x[~two], y[~two])])
    repeated = learn(RIDGE, [(x[mixed == part], y[mixed == part]) for part in range(3)])
    for other in (by_class, repeated):
        torch.testing.assert_close(other.weight, joint.weight, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(other.bias, joint.bias, rtol=1e-4, atol=1e-6)


def test_classes_may_arrive_in_any_order() -> None:
    x, y = data()
    order = torch.tensor([3, 0, 4, 2, 1])
    place = order.argsort()
    forwards = learn(RIDGE, [(x[y == label], y[y == label]) for label in range(5)])
    shuffled = learn(RIDGE, [(x[y == label], place[y[y == label]]) for label in order.tolist()])
    torch.testing.assert_close(shuffled.weight[place], forwards.weight, rtol=1e-4, atol=1e-6)


def test_an_example_taken_out_leaves_no_trace() -> None:
    x, y = data()
    projection = RIDGE.draw(x.shape[1], torch.Generator().manual_seed(1))
    empty = Statistics.empty(50, 5, x.device)
    stayed = torch.arange(len(y)) % 4 > 0
    without = empty.with_examples(x[stayed], y[stayed], projection)
    removed = empty.with_examples(x, y, projection).without_examples(x[~stayed], y[~stayed], projection)
    torch.testing.assert_close(removed.gram, without.gram, rtol=1e-11, atol=1e-9)
    torch.testing.assert_close(removed.weights(2.0), without.weights(2.0), rtol=1e-8, atol=1e-10)


def test_the_features_own_length_does_not_matter() -> None:
    x, y = data()
    own, long = learn(RIDGE, [(x, y)]), learn(RIDGE, [(1000 * x, y)])
    torch.testing.assert_close(own(x), long(1000 * x), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("counts", [(1,), (1, 1), (40, 1), (3, 0, 2)])
def test_any_number_of_examples_a_class_gives_finite_scores(counts: tuple[int, ...]) -> None:
    y = torch.tensor([label for label, count in enumerate(counts) for _ in range(count)])
    x = torch.randn(len(y), 8, generator=torch.Generator().manual_seed(1))
    head = learn(RIDGE, [(x, y)])
    assert head(x).shape == (len(y), len(counts))
    assert torch.isfinite(head(x)).all()


def test_features_that_are_not_finite_are_refused() -> None:
    x, y = data()
    x[3, 2] = torch.inf
    with pytest.raises(ValueError, match="no ridge solution"):
        learn(RIDGE, [(x, y)])


def test_a_dropped_class_gives_its_place_to_the_next() -> None:
    x, y = data()
    head, statistics = RIDGE.fit(x, y, 5, parent_head=None, statistics=None, generator=torch.Generator())
    kept = keep_rows(statistics, [0, 1, 3, 4])
    torch.testing.assert_close(kept["sums"][2], statistics["sums"][3])
    torch.testing.assert_close(kept["gram"], statistics["gram"])


def test_an_exported_head_comes_back_the_same() -> None:
    x, y = data()
    head = learn(RIDGE, [(x, y)])
    again = heads.restore(head.export())
    assert isinstance(again, RandomFeaturesHead)
    torch.testing.assert_close(again(x), head(x))


def test_five_steps_on_digits_do_far_better_than_the_nearest_mean() -> None:
    images, target = load_digits(return_X_y=True)
    x, y = torch.from_numpy(images).float(), torch.from_numpy(target).long()
    test = torch.arange(len(y)) % 3 == 0
    train_x, train_y = x[~test], y[~test]
    steps = [(train_y == 2 * step) | (train_y == 2 * step + 1) for step in range(5)]
    head = learn(Ridge(width=500), [(train_x[own], train_y[own]) for own in steps])
    means = torch.stack([train_x[train_y == label].mean(0) for label in range(10)])
    ridge = (head(x[test]).argmax(1) == y[test]).float().mean()
    nearest = (torch.cdist(x[test], means).argmin(1) == y[test]).float().mean()
    assert ridge > 0.95
    assert ridge > nearest + 0.03
