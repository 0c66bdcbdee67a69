"""Leave-one-out in closed form against heads that are really solved without the example."""

from __future__ import annotations

import numpy as np
import pytest

from accrete_learner.analytic import Statistics, discriminant, leave_one_out
from accrete_learner.analytic.discriminant import MOST_ADDED, ridge_of, solve, with_examples
from accrete_learner.analytic.head import nearness_without
from accrete_learner.analytic.statistics import Doubles, Labels, on_grid

COUNTS = [2, 3, 5, 4, 9, 2]


def data(length: int) -> tuple[Doubles, Labels]:
    random = np.random.default_rng(0)
    y = np.repeat(np.arange(len(COUNTS)), COUNTS)
    centres = random.standard_normal((len(COUNTS), length))
    return on_grid(random.standard_normal((len(y), length)) + 2 * centres[y]), y


def refitted(x: Doubles, y: Labels, example: int, ridge: float, noise: float) -> Doubles:
    """Return the scores of one example by the definition, on all others, with numbers r and n Q that are given."""
    kept = np.arange(len(y)) != example
    counts = np.bincount(y[kept])
    means = np.array([x[kept & (y == c)].mean(axis=0) for c in range(len(counts))])
    apart = x[kept] - means[y[kept]]
    precision = np.linalg.inv(apart.T @ apart + ridge * np.eye(x.shape[1]))
    centre = means.mean(axis=0)
    means -= centre
    kernel = means @ precision @ means.T
    drawn = kernel @ np.linalg.solve(kernel + np.diag(noise / counts), means) if noise else means
    weight = drawn @ precision
    result: Doubles = weight @ (x[example] - centre) - np.einsum("kd,kd->k", weight, drawn) / 2
    return result


@pytest.mark.parametrize("length", [3, 8, 40], ids=["more classes than features", "more examples", "fewer"])
@pytest.mark.parametrize("drawing", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("shrinkage", [0.01, 1.0])
def test_the_scores_are_those_of_a_head_that_never_saw_the_example(
    length: int, drawing: float, shrinkage: float
) -> None:
    x, y = data(length)
    statistics = Statistics.empty(length, len(COUNTS)).with_examples(x, y)
    solution = solve(statistics, shrinkage)
    scores = leave_one_out.Judge(solution, drawing).scores(leave_one_out.products(solution, x, y))
    ridge = solution.ridge
    assert ridge == pytest.approx(shrinkage * np.square(x - x.mean(axis=0)).sum() / length, rel=0.05)
    noise = drawing * solution.diagonal.sum() / np.sum(1 / np.array(COUNTS))
    expected = np.array([refitted(x, y, example, ridge, noise) for example in range(len(y))])
    np.testing.assert_allclose(scores, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())


@pytest.mark.parametrize("length", [3, 8])
@pytest.mark.parametrize("drawing", [0.0, 1.0])
def test_the_head_itself_has_the_scores_of_the_definition(length: int, drawing: float) -> None:
    x, y = data(length)
    solution = solve(Statistics.empty(length, len(COUNTS)).with_examples(x, y), 0.1)
    weight, bias = solution.head(drawing)
    ridge = solution.ridge
    noise = drawing * solution.diagonal.sum() / np.sum(1 / np.array(COUNTS))
    # The definition leaves one out: a stranger, whom it then does not.
    asked = np.random.default_rng(7).standard_normal((5, length))
    expected = [refitted(np.r_[x, [z]], np.r_[y, 0], len(y), ridge, noise) for z in asked]
    np.testing.assert_allclose(asked @ weight.T + bias, expected, rtol=1e-9)


@pytest.mark.parametrize("length", [3, 40])
def test_for_many_classes_scores_of_less_precision_are_good_enough(
    monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    x, y = data(length)
    solution = solve(Statistics.empty(length, len(COUNTS)).with_examples(x, y), 0.1)
    exact = leave_one_out.Judge(solution, 1.0).scores(leave_one_out.products(solution, x, y))
    monkeypatch.setattr(discriminant, "SINGLE_FROM", len(COUNTS))
    products = leave_one_out.products(solution, x, y)
    assert products.with_means.dtype == np.float32
    found = leave_one_out.Judge(solution, 1.0).scores(products)
    np.testing.assert_allclose(found, exact, atol=1e-4 * np.abs(exact).max())
    served = solution.head(1.0)
    monkeypatch.undo()
    for one, other in zip(served, solution.head(1.0), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5 * np.abs(other).max())


def test_an_example_that_is_alone_in_its_class_is_not_judged() -> None:
    x, y = data(8)
    solution = solve(Statistics.empty(8, 7).with_examples(np.r_[x, x[:1]], np.r_[y, 6]), 0.1)
    with pytest.raises(ValueError, match="one example"):
        leave_one_out.products(solution, x[:1], np.array([6]))


def test_nearness_is_to_means_without_the_example() -> None:
    x, y = data(8)
    nearness = nearness_without(Statistics.empty(8, len(COUNTS)).with_examples(x, y), x, y)
    for example, found in enumerate(nearness):
        kept = np.arange(len(y)) != example
        means = np.array([x[kept & (y == c)].mean(axis=0) for c in range(len(COUNTS))])
        cosines = means @ x[example] / np.linalg.norm(means, axis=1) / np.linalg.norm(x[example])
        assert found == pytest.approx(cosines.max(), abs=1e-12)


def same_ridge(before: Statistics, after: Statistics) -> float:
    """Return a shrinkage at which r is the same for both."""
    return next(one for one in (0.1 + n / 1000 for n in range(20)) if ridge_of(before, one) == ridge_of(after, one))


@pytest.mark.parametrize("length", [3, 8, 40], ids=["more classes than features", "more examples", "fewer"])
@pytest.mark.parametrize("added", [[3], [6], [6, 6, 2, 3, 2, 7]], ids=["known class", "new class", "several"])
def test_a_system_that_is_brought_up_to_date_is_the_one_that_is_solved(length: int, added: list[int]) -> None:
    x, y = data(length)
    y = np.r_[y, added]
    x = np.r_[x, on_grid(0.1 * np.random.default_rng(1).standard_normal((len(added), length)))]
    before = Statistics.empty(length, len(COUNTS)).with_examples(x[: -len(added)], y[: -len(added)])
    after = before.grown(max(y) + 1).with_examples(x[-len(added) :], np.array(added))
    shrinkage = same_ridge(before, after)
    found = with_examples(solve(before, shrinkage), before, after, x[-len(added) :], np.array(added))
    wanted = solve(after, shrinkage)
    assert found is not None
    for name in ("counts", "centre", "means", "solved"):
        np.testing.assert_allclose(getattr(found, name), getattr(wanted, name), rtol=1e-9, atol=1e-12)
    assert (found.kernel is None) == (wanted.kernel is None)
    if found.kernel is not None and wanted.kernel is not None:
        np.testing.assert_allclose(found.kernel, wanted.kernel, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.precision.inverse(), wanted.precision.inverse(), rtol=1e-9, atol=1e-12)
    asked = np.random.default_rng(2).standard_normal((5, length))
    np.testing.assert_allclose(found.norms(asked), wanted.norms(asked), rtol=1e-9)


def test_a_system_is_solved_anew_where_it_cannot_be_brought_up_to_date() -> None:
    x, y = data(8)
    before = Statistics.empty(8, len(COUNTS)).with_examples(x, y)
    solution = solve(before, 0.1)
    far = before.with_examples(100 * x[:1], y[:1])
    assert with_examples(solution, before, far, 100 * x[:1], y[:1]) is None, "r is another"
    many = before.with_examples(np.tile(x[:1], (MOST_ADDED + 1, 1)), np.repeat(y[:1], MOST_ADDED + 1))
    assert with_examples(solution, before, many, np.tile(x[:1], (65, 1)), np.repeat(y[:1], 65)) is None
    gap = Statistics.empty(8, 7).with_examples(x, np.where(y > 2, y + 1, y))
    filled = gap.with_examples(x[:1], [3])
    shrinkage = same_ridge(gap, filled)
    assert with_examples(solve(gap, shrinkage), gap, filled, x[:1], np.array([3])) is None, "a class before others"
