"""A shrunk linear discriminant whose class means are drawn together, with equal priors, from sums alone.

All classes share one covariance, and the score of a class is its log density but for what all classes have in common:
f_k(x) = z' P m_k - m_k' P m_k / 2, with z = x - c, m_k the class's mean less c, c the mean of the class means,
P = (S + r I)^-1, S the scatter within the classes and r a shrinkage relative to the mean total scatter of a feature.
r > 0 keeps the system regular while there are fewer examples than features, from one example per class on. r is taken
from a grid, so that it mostly stays as it is when an example is added.

An example x that is added to a class of n changes S by n / (n + 1) u u', u = x - m_k, P by rank one (Sherman and
Morrison), and all else by rank one too: a solved system is brought up to date in a hundredth of the time of solving it.

Drawing the means: a mean of few examples is noisy, its m' P m is too large by that noise, and the class loses to those
with many. Under a Gaussian prior over class means, seen through P, the expected means given the observed ones are
K (K + Q)^-1 M, with K = M P M' and Q diagonal, the noise, in inverse proportion to the class's count. A class with few
examples is drawn far towards those that it resembles; one with many hardly moves. Q = 0 is the plain discriminant.

Sources: Friedman, Regularized discriminant analysis (JASA 1989); Ioffe, Probabilistic linear discriminant analysis
(ECCV 2006), for the prior over means. It takes the place of the softmax of cosines by which Goswami et al., Calibrating
Higher-Order Statistics for Few-Shot Class-Incremental Learning (CVPR 2024 workshops), pull new classes towards known
ones: that has one strength whatever the count, and must be told which classes are new.

Shapes: N examples, d feature length, C classes that have examples.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import blake2b
from typing import Final

import numpy as np

from accrete_learner.analytic.drawn import Drawn, DrawnByFactors, DrawnByMatrix, Kind
from accrete_learner.analytic.statistics import Doubles, Labels, Reals, Statistics

#: Values of the shrinkage in each doubling.
_GRID: Final = 8
#: Examples that are added to a solved system before it is solved anew, which keeps rounding and memory small.
MOST_ADDED: Final = 64
_LEAST: Final = np.finfo(np.float64).tiny
#: Classes from which on what is served or judges is multiplied in float32, in which a head is served; it takes half the
#: time. What is solved stays float64.
SINGLE_FROM: Final = 200


def precision_for(classes: int) -> Kind:
    """Return the type of products for so many classes."""
    return np.float32 if classes >= SINGLE_FROM else np.float64


@dataclass(frozen=True, kw_only=True)
class Precision:
    """P, as it was factored and as it has changed since."""

    factor: Doubles
    """[d, d], the lower Cholesky factor of a sum S + r I; the upper part is not set."""
    directions: Doubles
    """[d, a], of the examples added since."""
    strengths: Doubles
    """[a]. P is the inverse of the factored sum less directions @ diag(strengths) @ directions.T."""
    added: Doubles
    """[d, a]. P^-1 is the factored sum and added @ added.T."""
    _squares: dict[bytes, float] = field(default_factory=dict, repr=False, compare=False)
    """By a digest of x: x' (the factored sum)^-1 x. The examples that judge are mostly the same from step to step."""

    @property
    def changes(self) -> int:
        """a."""
        return len(self.strengths)

    def inverse(self) -> Doubles:
        """Return P^-1 [d, d]."""
        factor = np.tril(self.factor)
        inverse: Doubles = factor @ factor.T + self.added @ self.added.T
        return inverse

    def times(self, vector: Doubles) -> Doubles:
        """Return P vector [d]."""
        from scipy import linalg  # not above: a third of a second, which trainers of networks do without

        product: Doubles = linalg.cho_solve((self.factor, True), vector, check_finite=False)
        product -= self.directions @ (self.strengths * (self.directions.T @ vector))
        return product

    def norms(self, features: Doubles, centre: Doubles) -> Doubles:
        """Return z' P z [n] of features x [n, d], z = x - centre. For one that was asked before it costs little."""
        from scipy import linalg

        names = [blake2b(row, digest_size=16).digest() for row in np.ascontiguousarray(features)]
        if unknown := {name: row for row, name in enumerate(names) if name not in self._squares}:
            rows = features[list(unknown.values())].T
            whitened = linalg.solve_triangular(self.factor, rows, lower=True, check_finite=False)
            self._squares.update(zip(unknown, np.einsum("dn,dn->n", whitened, whitened), strict=True))
        along: Doubles = linalg.cho_solve((self.factor, True), centre, check_finite=False)
        norms: Doubles = np.array([self._squares[name] for name in names]) - 2 * features @ along + centre @ along
        if self.changes:
            norms -= np.square((features - centre) @ self.directions) @ self.strengths
        return norms

    def with_scatter(self, apart: Doubles, along: Doubles, weight: float) -> Precision:
        """Return the inverse of P^-1 + weight u u' (Sherman and Morrison).

        Args:
            apart: u [d].
            along: P u [d].
            weight: above 0.
        """
        return replace(
            self,
            directions=np.column_stack([self.directions, along]),
            strengths=np.append(self.strengths, weight / (1 + weight * (apart @ along))),
            added=np.column_stack([self.added, np.sqrt(weight) * apart]),
        )


@dataclass(frozen=True, kw_only=True)
class Solution:
    """The solved system for one shrinkage, from which heads for any drawing follow cheaply."""

    shrinkage: float
    ridge: float
    """r."""
    counts: Doubles
    """[C]."""
    centre: Doubles
    """[d], the mean of the class means."""
    precision: Precision
    """P."""
    means: Doubles
    """[C, d], M, the class means less the centre."""
    solved: Doubles
    """[d, C], P M'."""
    kernel: Doubles | None
    """[C, C], K = M P M'; None for more classes than features, where it is not made."""
    _drawn: dict[float, Drawn] = field(default_factory=dict, init=False, repr=False, compare=False)
    """By drawing."""

    @cached_property
    def diagonal(self) -> Doubles:
        """Return that of K [C]."""
        if self.kernel is not None:
            return np.diag(self.kernel)
        diagonal: Doubles = np.einsum("kd,dk->k", self.means, self.solved)
        return diagonal

    def kernel_rows(self, rows: Labels, kind: Kind) -> Reals:
        """Return rows [n] of K [n, C]."""
        if self.kernel is not None:
            return self.kernel[rows].astype(kind)
        found: Reals = self.means[rows].astype(kind) @ self.solved.astype(kind)
        return found

    def noise(self, drawing: float) -> Doubles:
        """Return the diagonal of Q [C]: on average over classes `drawing` times the mean of K's diagonal."""
        inverse = 1 / self.counts
        noise: Doubles = drawing * self.diagonal.sum() / inverse.sum() * inverse
        return noise

    def drawn(self, drawing: float) -> Drawn | None:
        """Return the means drawn; again at no cost. None where Q is 0."""
        noise = self.noise(drawing)
        if not noise.any():
            return None
        if drawing not in self._drawn:
            self._drawn[drawing] = (
                DrawnByFactors(self.precision.inverse(), self.means, noise)
                if self.kernel is None
                else DrawnByMatrix(self.kernel, noise)
            )
        return self._drawn[drawing]

    def norms(self, features: Doubles) -> Doubles:
        """Return z' P z [n] of features [n, d]."""
        return self.precision.norms(features, self.centre)

    def head(self, drawing: float) -> tuple[Reals, Doubles]:
        """Return the weight [C, d] and bias [C] of the scores x @ weight.T + bias."""
        drawn = self.drawn(drawing)
        weight: Reals = self.solved.T
        norms = self.diagonal
        if drawn is not None:
            weight, norms = drawn.head(self.solved, precision_for(len(self.counts)))
        return np.ascontiguousarray(weight), -norms / 2 - weight @ self.centre


def solve(statistics: Statistics, shrinkage: float) -> Solution:
    """Return the solved system over the classes that have examples.

    Args:
        statistics: of at least one example.
        shrinkage: above 0, in units of the mean over features of their total scatter.

    Raises:
        ValueError: when there is no example, or the sums have no solution.
    """
    from scipy import linalg

    present = statistics.counts > 0
    if not present.any():
        raise ValueError("there is no example to learn from")
    counts, sums = statistics.counts[present], statistics.sums[present]
    scaled = sums / np.sqrt(counts)[:, None]
    within = statistics.gram - scaled.T @ scaled
    ridge = ridge_of(statistics, shrinkage)
    within[np.diag_indices_from(within)] += ridge
    try:
        factor: Doubles = linalg.cholesky(within, lower=True, overwrite_a=True, check_finite=False)
    except linalg.LinAlgError as error:
        raise ValueError(f"the sums of features have no solution at shrinkage {shrinkage:g}") from error
    means = sums / counts[:, None]
    centre = means.mean(axis=0)
    means -= centre
    whitened = linalg.solve_triangular(factor, means.T, lower=True, check_finite=False)
    kernel: Doubles | None = whitened.T @ whitened if _is_made(len(counts), len(factor)) else None
    solved: Doubles = linalg.solve_triangular(
        factor, whitened, lower=True, trans=1, overwrite_b=True, check_finite=False
    )
    none = np.zeros((len(factor), 0))
    return Solution(
        shrinkage=shrinkage,
        ridge=ridge,
        counts=counts,
        centre=centre,
        precision=Precision(factor=factor, directions=none, strengths=none[0], added=none),
        means=means,
        solved=solved,
        kernel=kernel,
    )


def _is_made(classes: int, length: int) -> bool:
    """Return whether K is made as a matrix for so many classes and features."""
    return classes <= length


def ridge_of(statistics: Statistics, shrinkage: float) -> float:
    """Return r for statistics of at least one example, the nearest of `_GRID` values in each doubling."""
    every = np.trace(statistics.gram)
    total = every - np.square(statistics.sums.sum(axis=0)).sum() / statistics.counts.sum()
    # All examples may be one point, of which only the length says anything about the scale.
    scale = total if total > 1e-12 * every else every
    wanted = max(shrinkage * scale / statistics.feature_length, _LEAST)
    return float(2.0 ** (np.rint(np.log2(wanted) * _GRID) / _GRID))


def with_examples(
    solution: Solution, before: Statistics, after: Statistics, features: Doubles, labels: Labels
) -> Solution | None:
    """Return the solved system with a few examples more, or None when it has to be solved anew.

    That is so when they are many, when r becomes another, or when a class gets its first example and is not the last.

    Args:
        solution: of the examples before.
        before: their statistics.
        after: with those that come.
        features: [n, d] of the examples that come, as the sums count them.
        labels: [n], their classes in `after`.
    """
    if len(labels) + solution.precision.changes > MOST_ADDED:
        return None
    if ridge_of(after, solution.shrinkage) != solution.ridge:
        return None
    grown = before.grown(after.class_count)
    counts, sums = grown.counts.copy(), grown.sums.copy()
    for feature, label in zip(features, labels, strict=True):
        if counts[label]:
            row = int(np.count_nonzero(counts[:label]))
            solution = _with_example(solution, feature, sums[label] / counts[label], row)
        elif counts[label:].any():
            return None
        else:
            solution = _with_class(solution, feature)
        counts[label] += 1
        sums[label] += feature
    return solution


def _with_example(solution: Solution, feature: Doubles, mean: Doubles, row: int) -> Solution:
    """Return the solved system with one example more of the class in a row, whose mean was `mean`."""
    counts = solution.counts.copy()
    count = counts[row]
    counts[row] += 1
    apart = feature - mean  # u
    along = solution.precision.times(apart)  # P u
    products = apart @ solution.solved  # M P u
    length = apart @ along  # u' P u
    left = 1 / (1 + count / (count + 1) * length)
    moved = np.full(len(counts), -1 / len(counts))  # of each mean less the centre, in units of u / (n + 1)
    moved[row] += 1
    change = moved * (left / (count + 1)) - count / (count + 1) * left * products
    kernel = solution.kernel
    if kernel is not None:
        kernel = kernel + np.outer(products, change) + np.outer(moved, products + length * change) / (count + 1)
        kernel = (kernel + kernel.T) / 2
    return replace(
        solution,
        counts=counts,
        centre=solution.centre + apart / ((count + 1) * len(counts)),
        precision=solution.precision.with_scatter(apart, along, count / (count + 1)),
        means=solution.means + np.outer(moved / (count + 1), apart),
        solved=solution.solved + np.outer(change, along).T,
        kernel=kernel,
    )


def _with_class(solution: Solution, feature: Doubles) -> Solution:
    """Return the solved system with a further class of one example, which has no scatter."""
    classes = len(solution.counts) + 1
    apart = feature - solution.centre
    along = solution.precision.times(apart)
    others, own = -1 / classes, (classes - 1) / classes  # of each mean less the centre, in units of apart
    return replace(
        solution,
        counts=np.append(solution.counts, 1.0),
        centre=solution.centre + apart / classes,
        means=np.vstack([solution.means + others * apart, own * apart]),
        solved=np.column_stack([solution.solved + others * along[:, None], own * along]),
        kernel=_kernel_with_class(solution, apart, along),
    )


def _kernel_with_class(solution: Solution, apart: Doubles, along: Doubles) -> Doubles | None:
    classes = len(solution.counts) + 1
    if solution.kernel is None or not _is_made(classes, len(apart)):
        return None
    products, length = apart @ solution.solved, apart @ along
    old = solution.kernel - (products[:, None] + products) / classes + length / classes**2
    beside = (products - length / classes) * ((classes - 1) / classes)
    own = length * ((classes - 1) / classes) ** 2
    return np.block([[old, beside[:, None]], [beside, own]])
