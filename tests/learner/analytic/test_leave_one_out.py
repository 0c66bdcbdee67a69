"""Leave-one-out in closed form against heads that are really solved without the example."""

from __future__ import annotations

import numpy as np
import pytest

from accrete_learner.analytic import Statistics, leave_one_out
from accrete_learner.analytic.discriminant import solve
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


@pytest.mark.parametrize("length", [8, 40], ids=["more examples than features", "fewer"])
@pytest.mark.parametrize("drawing", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("shrinkage", [0.01, 1.0])
def test_the_scores_are_those_of_a_head_that_never_saw_the_example(
    length: int, drawing: float, shrinkage: float
) -> None:
    x, y = data(length)
    statistics = Statistics.empty(length, len(COUNTS)).with_examples(x, y)
    solution = solve(statistics, shrinkage)
    scores = leave_one_out.scores(solution, leave_one_out.products(solution, x, y), drawing)
    ridge = shrinkage * np.square(x - x.mean(axis=0)).sum() / length
    noise = drawing * np.trace(solution.kernel) / np.sum(1 / np.array(COUNTS))
    expected = np.array([refitted(x, y, example, ridge, noise) for example in range(len(y))])
    np.testing.assert_allclose(scores, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())


@pytest.mark.parametrize("drawing", [0.0, 1.0])
def test_the_head_itself_has_the_scores_of_the_definition(drawing: float) -> None:
    x, y = data(8)
    solution = solve(Statistics.empty(8, len(COUNTS)).with_examples(x, y), 0.1)
    weight, bias = solution.head(drawing)
    ridge = 0.1 * np.square(x - x.mean(axis=0)).sum() / 8
    noise = drawing * np.trace(solution.kernel) / np.sum(1 / np.array(COUNTS))
    # The definition leaves one out: a stranger, whom it then does not.
    asked = np.random.default_rng(7).standard_normal((5, 8))
    expected = [refitted(np.r_[x, [z]], np.r_[y, 0], len(y), ridge, noise) for z in asked]
    np.testing.assert_allclose(asked @ weight.T + bias, expected, rtol=1e-9)


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
