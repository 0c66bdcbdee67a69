"""From sums to a head that can be served, its strengths chosen and its probabilities calibrated by leave-one-out.

The head is a function of the set of examples: of the sums, and of a sample of examples that is chosen from their ids.
Shapes: n examples that judge, d feature length, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accrete_learner.analytic import leave_one_out
from accrete_learner.analytic.calibration import best_factor, log_losses
from accrete_learner.analytic.discriminant import MOST_ADDED, Solution, precision_for, solve, with_examples
from accrete_learner.analytic.judgement import Judgement
from accrete_learner.analytic.statistics import Doubles, Labels, Reals, Statistics, as_labels, on_grid

Floats = NDArray[np.float32]

#: The usual strengths, and others that are taken where they are clearly better.
SHRINKAGE: Final = 0.1
STRONGER_SHRINKAGE: Final = 1.0
DRAWING: Final = 1.0
WEAKER_DRAWING: Final = 0.25
#: Examples per feature above which the shrinkage matters too little for a second system.
_ENOUGH: Final = 2
#: Examples of the median class from which on no other drawing is tried: means of so many are hardly drawn.
_MANY: Final = 50
#: Clearly better is by this many standard errors of the mean difference.
_CLEARLY: Final = 3.0
#: Examples that must be judged for a choice, and that judge another strength at most.
_FEWEST: Final = 10
_MOST: Final = 256
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
    solutions: tuple[Solution, ...]
    """The systems that were solved, each at another shrinkage."""


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """Systems that were solved before, and the examples that came since."""

    solutions: tuple[Solution, ...]
    """As a head had them."""
    statistics: Statistics
    """Over the examples that they were solved for."""
    features: Floats
    """[n, d] of those that came since."""
    labels: Labels
    """[n], their classes."""

    @classmethod
    def of(cls, head: AnalyticHead, statistics: Statistics) -> Earlier:
        """Return what was solved just now."""
        none = np.zeros((0, statistics.feature_length), np.float32)
        return cls(solutions=head.solutions, statistics=statistics, features=none, labels=np.zeros(0, np.int64))

    def with_examples(self, features: Floats, labels: Labels) -> Earlier | None:
        """Return this with further examples [n, d] of classes [n], or None where they are too many to be of use."""
        if len(self.labels) + len(labels) > MOST_ADDED:
            return None
        return replace(
            self, features=np.concatenate([self.features, features]), labels=np.concatenate([self.labels, labels])
        )


def fit(statistics: Statistics, features: ArrayLike, labels: ArrayLike, earlier: Earlier | None = None) -> AnalyticHead:
    """Return the head of all examples.

    Args:
        statistics: over all examples.
        features: [n, d] of examples that are among them and judge, say the ones of `sample.choose`. There may be none.
        labels: [n], their classes.
        earlier: spares most of the solving where few examples came since. Its head is the same but for rounding.

    Raises:
        ValueError: when there is no example, a feature is not finite, or a shape or a class does not fit.
    """
    x, y = on_grid(features), as_labels(labels, statistics.class_count)
    if x.shape != (len(y), statistics.feature_length):
        raise ValueError(f"features of shape {x.shape}: must be {(len(y), statistics.feature_length)}")
    judged = np.flatnonzero(statistics.counts[y] > 1)
    present = np.flatnonzero(statistics.counts)
    x, y, rows = x[judged], y[judged], np.searchsorted(present, y[judged])

    solver = _Solver(statistics, earlier)
    answers = _chosen(solver, x, rows)
    weight, bias = answers.solution.head(answers.drawing)

    means = statistics.means()
    full_weight, full_bias = np.zeros_like(means), np.full(len(means), _NEVER)
    full_weight[present], full_bias[present] = answers.factor * weight, answers.factor * bias
    probabilities = np.zeros((len(y), len(means)))
    probabilities[:, present] = _softmax(answers.factor * answers.scores)
    return AnalyticHead(
        weight=full_weight.astype(np.float32),
        bias=full_bias.astype(np.float32),
        means=_unit(means).astype(np.float32),
        shrinkage=answers.solution.shrinkage,
        drawing=answers.drawing,
        temperature=1 / answers.factor,
        judgement=Judgement(
            positions=judged,
            labels=y,
            probabilities=probabilities,
            nearness=nearness_without(statistics, x, y),
            class_count=len(means),
        ),
        solutions=tuple(solver.solutions.values()),
    )


def nearness_without(statistics: Statistics, features: Doubles, labels: Labels) -> Doubles:
    """Return the cosine [n] of features [n, d] to the nearest class mean, without the example in its class's mean.

    Args:
        statistics: which count the examples.
        features: [n, d].
        labels: [n], classes of two examples or more.
    """
    kind = precision_for(statistics.class_count)
    rows, length = np.arange(len(labels)), np.linalg.norm(features, axis=1)
    lengths = np.linalg.norm(statistics.sums, axis=1)
    with_sums = features.astype(kind) @ statistics.sums.T.astype(kind)
    own = with_sums[rows, labels].astype(np.float64)
    own_length = np.sqrt(np.maximum(lengths[labels] ** 2 - 2 * own + length**2, 0))
    cosines = with_sums / np.maximum(lengths, 1e-12).astype(kind)
    cosines[rows, labels] = (own - length**2) / np.maximum(own_length, 1e-12)
    cosines[:, statistics.counts == 0] = -np.inf
    nearest: Doubles = np.maximum(cosines.max(axis=1, initial=-np.inf) / np.maximum(length, 1e-12), -1)
    return nearest


@dataclass(frozen=True, kw_only=True)
class _Answers:
    """Of examples by heads that never saw them, with one shrinkage and one drawing."""

    solution: Solution
    drawing: float
    judge: leave_one_out.Judge
    factor: float
    scores: Reals
    losses: Doubles

    def clearly_better(self, usual: _Answers) -> bool:
        """Return whether these answer the first `_MOST` examples better than others answered the same ones."""
        gains = usual.losses - self.losses
        return bool(gains.mean() > _CLEARLY * gains.std() / np.sqrt(len(gains)))


class _Solver:
    """Solves the system at one shrinkage or another, from what was solved earlier where that is possible."""

    def __init__(self, statistics: Statistics, earlier: Earlier | None) -> None:
        self.statistics = statistics
        self.solutions: dict[float, Solution] = {}
        """By shrinkage, those that were asked for."""
        self._earlier = earlier

    def at(self, shrinkage: float) -> Solution:
        """Return the solved system."""
        if shrinkage not in self.solutions:
            self.solutions[shrinkage] = self._updated(shrinkage) or solve(self.statistics, shrinkage)
        return self.solutions[shrinkage]

    def _updated(self, shrinkage: float) -> Solution | None:
        if self._earlier is None:
            return None
        features = on_grid(self._earlier.features)
        labels = as_labels(self._earlier.labels, self.statistics.class_count)
        for solution in self._earlier.solutions:
            if solution.shrinkage == shrinkage:
                return with_examples(solution, self._earlier.statistics, self.statistics, features, labels)
        return None


def _chosen(solver: _Solver, x: Doubles, rows: Labels) -> _Answers:
    """Return the answers for all examples with the shrinkage that is best, and the drawing that is then best."""
    statistics, solution = solver.statistics, solver.at(SHRINKAGE)
    first, others = slice(_MOST), slice(_MOST, None)
    of = leave_one_out.products(solution, x, rows)
    usual = _answers(solution, of.part(first), DRAWING)
    if len(rows) < _FEWEST:
        return usual
    if statistics.example_count <= _ENOUGH * statistics.feature_length:
        stronger = solver.at(STRONGER_SHRINKAGE)
        answers = _answers(stronger, leave_one_out.products(stronger, x[first], rows[first]), DRAWING)
        if answers.clearly_better(usual):
            of, usual = leave_one_out.products(stronger, x, rows), answers
    best = usual
    if np.median(statistics.counts[statistics.counts > 0]) < _MANY:
        weaker = _answers(usual.solution, of.part(first), WEAKER_DRAWING)
        best = weaker if weaker.clearly_better(usual) else usual
    scores = np.concatenate([best.scores, best.judge.scores(of.part(others))])
    return _calibrated(best.solution, of, best.drawing, best.judge, scores)


def _answers(solution: Solution, of: leave_one_out.Products, drawing: float) -> _Answers:
    judge = leave_one_out.Judge(solution, drawing)
    return _calibrated(solution, of, drawing, judge, judge.scores(of))


def _calibrated(
    solution: Solution, of: leave_one_out.Products, drawing: float, judge: leave_one_out.Judge, scores: Reals
) -> _Answers:
    factor = best_factor(scores, of.labels, _usual(solution)) if len(of.labels) else _usual(solution)
    losses = log_losses(scores, of.labels, factor)
    return _Answers(solution=solution, drawing=drawing, judge=judge, factor=factor, scores=scores, losses=losses)


def _usual(solution: Solution) -> float:
    level = solution.diagonal.mean()
    return float(_USUAL / level) if level > 1e-12 else 1.0


def _softmax(scores: Reals) -> Reals:
    shifted = np.exp(scores - scores.max(axis=1, keepdims=True, initial=-np.inf))
    result: Reals = shifted / shifted.sum(axis=1, keepdims=True)
    return result


def _unit(vectors: Doubles) -> Doubles:
    directions: Doubles = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return directions
