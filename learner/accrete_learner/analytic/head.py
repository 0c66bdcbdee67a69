"""From sums to a head that can be served, its strengths chosen and its probabilities calibrated by leave-one-out.

The head is a function of the set of examples: of the sums, and of a sample of examples that is chosen from their ids.
Shapes: n examples that judge, d feature length, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accrete_learner.analytic import leave_one_out
from accrete_learner.analytic.calibration import best_factor, log_losses
from accrete_learner.analytic.discriminant import Solution, solve
from accrete_learner.analytic.judgement import Judgement
from accrete_learner.analytic.statistics import Doubles, Labels, Statistics, as_labels, on_grid

Floats = NDArray[np.float32]

#: Shrinkages and drawings to choose from. The first are taken where others are not clearly better.
SHRINKAGES: Final = (0.1, 1.0)
DRAWINGS: Final = (1.0, 0.5, 2.0, 0.25, 0.0)
#: Clearly better is by this many standard errors of the mean difference.
_CLEARLY: Final = 3.0
#: Examples that must be judged for a choice, and that judge the shrinkages; each of those needs a system of its own.
_FEWEST: Final = 10
_FOR_SHRINKAGE: Final = 256
#: Times the mean of K's diagonal, a head's usual factor on scores.
_USUAL: Final = 20.0
#: Score of a class without examples, which is never answered.
_NEVER: Final = -1e6


@dataclass(frozen=True, kw_only=True)
class AnalyticHead:
    """A head as it is served, and what it was judged to be worth.

    softmax(features @ weight.T + bias) are calibrated probabilities.
    """

    weight: Floats
    """[C, d]."""
    bias: Floats
    """[C]."""
    means: Floats
    """[C, d], the classes' means scaled to length 1; 0 for a class without examples."""
    shrinkage: float
    drawing: float
    temperature: float
    """By which the scores were divided."""
    judgement: Judgement


def fit(statistics: Statistics, features: ArrayLike, labels: ArrayLike) -> AnalyticHead:
    """Return the head of all examples.

    Args:
        statistics: over all examples.
        features: [n, d] of examples that are among them and judge, say the ones of `sample.choose`. There may be none.
        labels: [n], their classes.

    Raises:
        ValueError: when there is no example, a feature is not finite, or a shape or a class does not fit.
    """
    x, y = on_grid(features), as_labels(labels, statistics.class_count)
    if x.shape != (len(y), statistics.feature_length):
        raise ValueError(f"features of shape {x.shape}: must be {(len(y), statistics.feature_length)}")
    judged = np.flatnonzero(statistics.counts[y] > 1)
    present = np.flatnonzero(statistics.counts)
    x, y, rows = x[judged], y[judged], np.searchsorted(present, y[judged])

    solution = _chosen_solution(statistics, x, rows)
    of = leave_one_out.products(solution, x, rows)
    answers = _chosen_answers(solution, of)
    weight, bias = solution.head(answers.drawing)

    means = statistics.means()
    full_weight, full_bias = np.zeros_like(means), np.full(len(means), _NEVER)
    full_weight[present], full_bias[present] = answers.factor * weight, answers.factor * bias
    probabilities = np.zeros((len(y), len(means)))
    probabilities[:, present] = _softmax(answers.factor * answers.scores)
    return AnalyticHead(
        weight=full_weight.astype(np.float32),
        bias=full_bias.astype(np.float32),
        means=_unit(means).astype(np.float32),
        shrinkage=solution.shrinkage,
        drawing=answers.drawing,
        temperature=1 / answers.factor,
        judgement=Judgement(
            positions=judged,
            labels=y,
            probabilities=probabilities,
            nearness=nearness_without(statistics, x, y),
            class_count=len(means),
        ),
    )


def nearness_without(statistics: Statistics, features: Doubles, labels: Labels) -> Doubles:
    """Return the cosine [n] of features [n, d] to the nearest class mean, without the example in its class's mean.

    Args:
        statistics: which count the examples.
        features: [n, d].
        labels: [n], classes of two examples or more.
    """
    rows, length = np.arange(len(labels)), np.linalg.norm(features, axis=1)
    with_sums = features @ statistics.sums.T
    lengths = np.tile(np.linalg.norm(statistics.sums, axis=1), (len(labels), 1))
    own = with_sums[rows, labels]
    with_sums[rows, labels] = own - length**2
    lengths[rows, labels] = np.sqrt(np.maximum(lengths[rows, labels] ** 2 - 2 * own + length**2, 0))
    cosines = with_sums / np.maximum(lengths * length[:, None], 1e-12)
    cosines[:, statistics.counts == 0] = -1
    nearest: Doubles = cosines.max(axis=1, initial=-1)
    return nearest


@dataclass(frozen=True, kw_only=True)
class _Answers:
    """Of examples by heads that never saw them, with one drawing."""

    drawing: float
    factor: float
    scores: Doubles
    losses: Doubles

    def clearly_better(self, other: _Answers) -> bool:
        gains = other.losses - self.losses
        return bool(gains.mean() > _CLEARLY * gains.std() / np.sqrt(len(gains)))


def _chosen_solution(statistics: Statistics, x: Doubles, rows: Labels) -> Solution:
    """Return the system whose shrinkage answers best for a part of the examples, at its best drawing."""
    solution = solve(statistics, SHRINKAGES[0])
    if len(rows) < _FEWEST:
        return solution
    x, rows = x[:_FOR_SHRINKAGE], rows[:_FOR_SHRINKAGE]
    best = _chosen_answers(solution, leave_one_out.products(solution, x, rows))
    for shrinkage in SHRINKAGES[1:]:
        candidate = solve(statistics, shrinkage)
        answers = _chosen_answers(candidate, leave_one_out.products(candidate, x, rows))
        if answers.clearly_better(best):
            solution, best = candidate, answers
    return solution


def _chosen_answers(solution: Solution, of: leave_one_out.Products) -> _Answers:
    """Return the answers of the drawing that answers best."""
    usual = _answers(solution, of, DRAWINGS[0])
    if len(of.labels) < _FEWEST:
        return usual
    others = [_answers(solution, of, drawing) for drawing in DRAWINGS[1:]]
    best = min(others, key=lambda answers: float(answers.losses.mean()))
    return best if best.clearly_better(usual) else usual


def _answers(solution: Solution, of: leave_one_out.Products, drawing: float) -> _Answers:
    scores = leave_one_out.scores(solution, of, drawing)
    factor = best_factor(scores, of.labels, _usual(solution)) if len(of.labels) else _usual(solution)
    return _Answers(drawing=drawing, factor=factor, scores=scores, losses=log_losses(scores, of.labels, factor))


def _usual(solution: Solution) -> float:
    level = np.trace(solution.kernel) / len(solution.kernel)
    return float(_USUAL / level) if level > 1e-12 else 1.0


def _softmax(scores: Doubles) -> Doubles:
    shifted = np.exp(scores - scores.max(axis=1, keepdims=True, initial=-np.inf))
    result: Doubles = shifted / shifted.sum(axis=1, keepdims=True)
    return result


def _unit(vectors: Doubles) -> Doubles:
    directions: Doubles = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return directions
