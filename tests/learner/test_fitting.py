"""The rules that are fitted on exemplars' features: what they predict, and from how little."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from accrete_learner import evaluate, fitting, heads
from accrete_model.rules import FITTED
from accrete_model.rules.base import take_from

pytestmark = pytest.mark.integration

NAMES = tuple(fitting.FITS)


def clusters(counts: list[int], generator: torch.Generator, length: int = 16) -> tuple[Tensor, Tensor]:
    """Features of well separated classes, of very different lengths."""
    y = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    directions = torch.eye(length)[y] + 0.05 * torch.randn(len(y), length, generator=generator)
    return directions * torch.rand(len(y), 1, generator=generator).add(0.01).mul(100), y


def fit(name: str, x: Tensor, y: Tensor, class_count: int, seed: int = 0) -> dict[str, Tensor]:
    return fitting.fit(name, x, y, class_count=class_count, generator=torch.Generator().manual_seed(seed))


def scores(name: str, tensors: dict[str, Tensor], features: Tensor) -> Tensor:
    """As a server computes them."""
    classes = len(tensors[{"knn": "offset", "mlp": "bias_2", "svm": "intercept"}[name]])
    take = take_from(name, evaluate.arrays(tensors))
    rule = FITTED[name].read(take, classes=classes, length=features.shape[1])
    return torch.from_numpy(rule.scores(range(classes))(features.numpy()))


def test_every_rule_that_a_server_scores_by_is_fitted():
    assert fitting.FITS.keys() == FITTED.keys()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("each", [1, 5, 20])
def test_a_rule_tells_digits_as_well_as_their_means_do_and_knows_better_how_sure_it_is(
    digits: Callable[..., tuple[np.ndarray, np.ndarray]], name: str, each: int
):
    (x, y), (other_x, other_y) = (tuple(map(torch.from_numpy, digits(range(10), *n))) for n in ((each,), (60, 20)))
    x, other_x = x.flatten(1).float(), other_x.flatten(1).float()
    means = torch.stack([F.normalize(x[y == label], dim=1).mean(0) for label in range(10)])
    nearest = 10 * F.normalize(other_x, dim=1) @ F.normalize(means, dim=1).T
    both = scores(name, fit(name, x, y, 10), other_x), nearest
    accuracy, of_means = ((found.argmax(1) == other_y).float().mean() for found in both)
    loss, loss_of_means = (F.cross_entropy(found, other_y) for found in both)
    assert accuracy >= of_means - (0.03 if each < 20 else -0.03)
    assert loss < loss_of_means


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("counts", [[3, 3, 3], [1, 1], [1, 1, 1, 40], [2, 200, 1, 1, 30]], ids=str)
def test_classes_of_any_size_are_found(name: str, counts: list[int], generator: torch.Generator):
    tensors = fit(name, *clusters(counts, generator), len(counts))
    x, y = clusters([9] * len(counts), generator)
    assert torch.equal(scores(name, tensors, x).argmax(1), y)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("empty", [0, 2, 3])
def test_a_class_without_an_exemplar_scores_lowest_and_finite(name: str, empty: int, generator: torch.Generator):
    counts = [0 if label == empty else 4 for label in range(4)]
    found = scores(name, fit(name, *clusters(counts, generator), 4), torch.randn(50, 16, generator=generator))
    others = [label for label in range(4) if label != empty]
    assert torch.isfinite(found).all()
    assert (found[:, [empty]] < found[:, others]).all()
    assert torch.isfinite(found.softmax(1).log()[:, others]).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("count", [1, 7])
def test_a_class_alone_always_wins(name: str, count: int, generator: torch.Generator):
    x = torch.randn(count, 5, generator=generator)
    some = torch.randn(9, 5, generator=generator)
    alone = scores(name, fit(name, x, torch.zeros(count, dtype=torch.int64), 1), some)
    assert torch.equal(alone.softmax(1), torch.ones(9, 1))
    of_three = scores(name, fit(name, x, torch.ones(count, dtype=torch.int64), 3), some)
    torch.testing.assert_close(of_three.softmax(1), torch.tensor([[0.0, 1, 0]]).expand(9, 3))


@pytest.mark.parametrize("name", NAMES)
def test_exemplars_that_cannot_be_told_apart_still_give_a_rule(name: str):
    x, y = torch.ones(6, 4), torch.tensor([0, 0, 1, 1, 2, 2])
    found = scores(name, fit(name, x, y, 3), torch.cat([x, torch.zeros(1, 4)]))
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found.softmax(1)[0], torch.full((3,), 1 / 3), atol=0.05, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_only_directions_count(name: str, generator: torch.Generator):
    x, y = clusters([4, 4, 4], generator)
    some = torch.randn(20, 16, generator=generator)
    tensors, longer = fit(name, x, y, 3), fit(name, 50 * x, y, 3)
    expected = scores(name, tensors, some)
    torch.testing.assert_close(scores(name, longer, 3 * some), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_a_fit_is_plain_tensors_that_its_seed_alone_decides(name: str, generator: torch.Generator):
    x, y = clusters([4, 2, 4], generator)
    x.requires_grad_()
    some, again = fit(name, x, y, 3, seed=7), fit(name, x, y, 3, seed=7)
    assert {tensor.dtype for tensor in some.values()} <= {torch.float32, torch.int64}
    assert not any(tensor.requires_grad for tensor in some.values())
    assert some.keys() == again.keys()
    assert all(torch.equal(tensor, again[key]) for key, tensor in some.items())
    assert (not torch.equal(some["weight_1"], fit(name, x, y, 3, seed=8)["weight_1"])) if name == "mlp" else True


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("x", "y", "complaint"),
    [
        (torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), "one exemplar or more"),
        (torch.ones(2, 3), torch.tensor([0]), "2 features and 1 labels"),
        (torch.tensor([[float("nan")]]), torch.tensor([0]), "finite"),
        (torch.ones(1, 3), torch.tensor([2]), "outside 0 to 1"),
        (torch.ones(1, 3), torch.tensor([-1]), "outside 0 to 1"),
    ],
)
def test_exemplars_that_give_no_rule_are_refused(name: str, x: Tensor, y: Tensor, complaint: str):
    with pytest.raises(ValueError, match=complaint):
        fit(name, x, y, 2)


@pytest.mark.parametrize("name", ["head", "nme"])
def test_the_rules_without_a_fit_have_no_tensors(name: str):
    assert fit(name, torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), 2) == {}


def test_the_nearest_exemplars_share_the_votes_by_their_weights():
    angles = torch.tensor([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 3.0])
    x, y = torch.stack([angles.cos(), angles.sin()], dim=1), torch.tensor([0, 1, 0, 1, 1, 2, 2])
    shares = scores("knn", fit("knn", x, y, 3), torch.tensor([[2.0, 0.0]])).softmax(1)[0]
    weights = (angles.cos() / 0.07).exp()
    votes = (weights[:5] - weights[5]) / weights[0]  # five vote; the sixth says from where
    of_classes = torch.stack([votes[[0, 2]].sum(), votes[[1, 3, 4]].sum(), torch.tensor(0.0)]) + 0.1 / 3
    torch.testing.assert_close(shares, of_classes / of_classes.sum())


def test_neighbours_that_change_places_do_not_make_the_answer_leap(generator: torch.Generator):
    x, y = clusters([4, 4], generator)
    x = torch.cat([x, x[:1] + 1e-7 * torch.randn(4, 16, generator=generator)])  # as near as one another, and of both
    tensors = fit("knn", x, torch.cat([y, torch.tensor([0, 1, 0, 1])]), 2)
    probe = torch.randn(200, 16, generator=generator)
    before, after = (scores("knn", tensors, probe + move).softmax(1) for move in (0, 1e-5))
    assert float((before - after).abs().max()) < 1e-2


def test_the_margins_of_the_vector_machine_are_the_librarys(generator: torch.Generator):
    from sklearn.svm import SVC

    x, y = clusters([9, 2, 5], generator)
    unit, probe = F.normalize(x, dim=1), F.normalize(torch.randn(30, 16, generator=generator), dim=1)
    tensors = fit("svm", x, y, 3)
    gamma = float(tensors["gamma"])
    for label in range(3):
        machine = SVC(C=1.0, gamma=gamma, class_weight="balanced").fit(unit.double(), y == label)
        margins = torch.from_numpy(machine.decision_function(probe.double())).float()
        torch.testing.assert_close(scores("svm", tensors, probe)[:, label], 5 * margins, rtol=1e-3, atol=1e-3)


def test_one_function_scores_by_any_rule(generator: torch.Generator):
    x, y = clusters([4, 4, 4], generator)
    head = {"weight": torch.randn(3, 16, generator=generator), "bias": torch.zeros(3), "means": torch.eye(3, 16)}
    of_head, of_means = (evaluate.scores(rule, x, head, {}) for rule in ("head", "nme"))
    torch.testing.assert_close(of_head, heads.restore(head)(x).detach())
    torch.testing.assert_close(of_means, 10 * F.normalize(x, dim=1) @ head["means"].T)
    for name in NAMES:
        tensors = fit(name, x, y, 3)
        assert torch.equal(evaluate.scores(name, x, head, tensors), scores(name, tensors, x))


def test_scoring_in_parts_changes_nothing(generator: torch.Generator):
    head = {"weight": torch.randn(3, 16, generator=generator), "bias": torch.ones(3), "means": torch.eye(3, 16)}
    for count in (0, 1, 1025):
        x = torch.randn(count, 16, generator=generator)
        torch.testing.assert_close(evaluate.scores("head", x, head, {}), x @ head["weight"].T + 1)
