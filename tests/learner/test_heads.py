"""Heads: scores, growth that keeps old rows, imprinting, freezing, and the way into an artifact and back.

Shapes: d = 4 features.
"""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from accrete_learner import heads
from accrete_learner.heads import CosineHead, Head, HeadChoice, LinearHead

LENGTH = 4
LINEAR = HeadChoice(kind="linear")
COSINE = HeadChoice(kind="cosine", imprint=True, freeze_old=True)


def grow(choice: HeadChoice, parent: dict[str, Tensor] | None, count: int, seed: int = 0) -> Head:
    generator = torch.Generator().manual_seed(seed)
    return heads.grow(choice, parent, feature_length=LENGTH, class_count=count, generator=generator)


def features(count: int = 6) -> Tensor:
    return torch.randn(count, LENGTH, generator=torch.Generator().manual_seed(7))


def test_linear_scores_are_products_plus_bias() -> None:
    head = grow(LINEAR, None, 3)
    exported = head.export()
    torch.testing.assert_close(head(features()), features() @ exported["weight"].T + exported["bias"])


def test_cosine_scores_are_scaled_cosines_whatever_the_lengths() -> None:
    head = grow(COSINE, {"weight": torch.eye(LENGTH), "scale": torch.tensor([8.0])}, LENGTH)
    expected = 8 * F.normalize(features(), dim=1)
    torch.testing.assert_close(head(features()), expected)
    torch.testing.assert_close(head(100 * features()), expected)


@pytest.mark.parametrize("choice", [LINEAR, COSINE], ids=["linear", "cosine"])
def test_growth_keeps_old_rows_first_and_unchanged(choice: HeadChoice) -> None:
    parent = grow(choice, None, 3).export()
    grown = grow(choice, parent, 5, seed=1)
    torch.testing.assert_close(grown.weight[:3], parent["weight"], rtol=0, atol=0)
    torch.testing.assert_close(grown(features())[:, :3], heads.restore(parent)(features()))
    assert grown.weight.shape == (5, LENGTH)


@pytest.mark.parametrize("choice", [LINEAR, COSINE], ids=["linear", "cosine"])
def test_a_head_comes_back_from_its_export(choice: HeadChoice) -> None:
    head = grow(choice, grow(choice, None, 3).export(), 5)
    again = heads.restore(head.export())
    assert type(again) is type(head)
    torch.testing.assert_close(again(features()), head(features()))


def test_an_export_is_a_copy() -> None:
    head = grow(LINEAR, None, 3)
    head.export()["weight"].zero_()
    assert head.weight.abs().sum() > 0


def test_growth_by_no_class_and_from_no_class_both_work() -> None:
    parent = grow(COSINE, None, 3).export()
    assert grow(COSINE, parent, 3)(features()).shape == (6, 3)
    assert grow(COSINE, None, 1)(features()).shape == (6, 1)


def test_new_rows_come_from_the_generator() -> None:
    torch.testing.assert_close(grow(LINEAR, None, 3).weight, grow(LINEAR, None, 3).weight, rtol=0, atol=0)
    assert not torch.equal(grow(LINEAR, None, 3).weight, grow(LINEAR, None, 3, seed=1).weight)


def test_a_parent_of_the_other_kind_lends_its_rows() -> None:
    linear, cosine = grow(LINEAR, None, 3).export(), grow(COSINE, None, 3).export()
    assert isinstance(grow(COSINE, linear, 4), CosineHead)
    assert isinstance(grow(LINEAR, cosine, 4), LinearHead)
    torch.testing.assert_close(grow(COSINE, linear, 4).weight[:3], linear["weight"])


def test_a_head_cannot_shrink() -> None:
    parent = grow(LINEAR, None, 3).export()
    with pytest.raises(ValueError, match="cannot grow"):
        grow(LINEAR, parent, 2)


def test_a_head_cannot_change_its_feature_length() -> None:
    with pytest.raises(ValueError, match="cannot grow"):
        grow(LINEAR, {"weight": torch.zeros(2, LENGTH + 1)}, 3)


def test_frozen_old_rows_neither_learn_nor_decay() -> None:
    head = grow(COSINE, grow(COSINE, None, 3).export(), 5)
    before = head.weight.detach().clone()
    trained = [parameter for parameter in head.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.1, weight_decay=0.1)
    head(features()).square().sum().backward()
    optimizer.step()
    torch.testing.assert_close(head.weight[:3], before[:3], rtol=0, atol=0)
    assert (head.weight[3:] != before[3:]).all()


def test_old_rows_are_free_when_no_class_is_new_and_once_unfrozen() -> None:
    parent = grow(COSINE, None, 3).export()
    assert grow(COSINE, parent, 3).old_rows.requires_grad
    head = grow(COSINE, parent, 4)
    assert not head.old_rows.requires_grad
    head.freeze_old(False)
    assert head.old_rows.requires_grad


def test_freezing_a_linear_head_freezes_the_old_biases_too() -> None:
    head = grow(HeadChoice(kind="linear", freeze_old=True), grow(LINEAR, None, 3).export(), 4)
    assert isinstance(head, LinearHead)
    assert not head.old_bias.requires_grad
    assert head.new_bias.requires_grad


def test_imprinting_points_new_rows_at_their_classs_mean_direction_with_the_old_rows_mean_length() -> None:
    parent = grow(COSINE, None, 2).export()
    head = grow(COSINE, parent, 4)
    labels = torch.tensor([2, 2, 2, 3, 0, 3])
    heads.imprint(head, features(), labels)
    length = parent["weight"].norm(dim=1).mean()
    for label in (2, 3):
        own = [value / value.norm() for value in features()[labels == label]]
        mean = torch.stack(own).mean(0)
        torch.testing.assert_close(head.weight[label], length * mean / mean.norm())
    torch.testing.assert_close(head.weight[:2], parent["weight"], rtol=0, atol=0)


def test_imprinting_works_from_one_example_and_leaves_a_class_without_any_alone() -> None:
    head = grow(COSINE, grow(COSINE, None, 2).export(), 4)
    before = head.weight.detach().clone()
    heads.imprint(head, features(1), torch.tensor([2]))
    torch.testing.assert_close(F.normalize(head.weight[2], dim=0), F.normalize(features(1)[0], dim=0))
    torch.testing.assert_close(head.weight[3], before[3], rtol=0, atol=0)
