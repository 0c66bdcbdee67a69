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
from hashlib import blake2b
from typing import Any, Final

import numpy as np

from accrete_learner.analytic.statistics import Doubles, Labels, Reals, Statistics

#: Values of the shrinkage in each doubling.
_GRID: Final = 8
#: Examples that are added to a solved system before it is solved anew, which keeps rounding and memory small.
MOST_ADDED: Final = 64
_LEAST: Final = np.finfo(np.float64).tiny
#: Classes from which on what is served or judges is multiplied in float32, in which a head is served; it takes half the
#: time. What is solved stays float64.
SINGLE_FROM: Final = 200


def precision_for(classes: int) -> type[np.floating[Any]]:
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
    _squares: dict[bytes, float] = field(default_factory=dict, repr=False, compare=False)
    """By a digest of x: x' (the factored sum)^-1 x. The examples that judge are mostly the same from step to step."""

    @property
    def changes(self) -> int:
        """a."""
        return len(self.strengths)

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

    def changed(self, direction: Doubles, strength: float) -> Precision:
        """Return P less strength * direction direction'."""
        return replace(
            self,
            directions=np.column_stack([self.directions, direction]),
            strengths=np.append(self.strengths, strength),
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
    solved: Doubles
    """[d, C], P M', M the class means less the centre [C, d]."""
    kernel: Doubles
    """[C, C], K = M P M'."""
    _inverses: dict[float, Doubles] = field(default_factory=dict, init=False, repr=False, compare=False)
    """By drawing."""

    def noise(self, drawing: float) -> Doubles:
        """Return the diagonal of Q [C]: on average over classes `drawing` times the mean of K's diagonal."""
        inverse = 1 / self.counts
        noise: Doubles = drawing * np.trace(self.kernel) / inverse.sum() * inverse
        return noise

    def inverse(self, drawing: float) -> Doubles:
        """Return (K + Q)^-1 [C, C] for a drawing above 0; again at no cost."""
        if drawing not in self._inverses:
            from scipy import linalg

            lower, _ = linalg.lapack.dpotrf(self.kernel + np.diag(self.noise(drawing)), lower=1, clean=1)
            lower, _ = linalg.lapack.dpotri(lower, lower=1)
            self._inverses[drawing] = lower + np.tril(lower, -1).T
        return self._inverses[drawing]

    def norms(self, features: Doubles) -> Doubles:
        """Return z' P z [n] of features [n, d]."""
        return self.precision.norms(features, self.centre)

    def head(self, drawing: float) -> tuple[Reals, Doubles]:
        """Return the weight [C, d] and bias [C] of the scores x @ weight.T + bias."""
        noise = self.noise(drawing)
        if not noise.any():
            weight, norms = self.solved.T, np.diag(self.kernel)
        else:
            # With T = (K + Q)^-1 and K T = I - Q T, the drawn means' products are K - Q + Q T Q, and need none of K.
            inverse, kind = self.inverse(drawing), precision_for(len(noise))
            drawn = np.eye(len(noise)) - inverse * noise
            weight = (self.solved.astype(kind) @ drawn.astype(kind)).T
            products = self.kernel + noise[:, None] * inverse * noise
            products[np.diag_indices_from(products)] -= noise
            norms = np.einsum("jk,jk->k", drawn, products)
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
    kernel: Doubles = whitened.T @ whitened
    solved: Doubles = linalg.solve_triangular(
        factor, whitened, lower=True, trans=1, overwrite_b=True, check_finite=False
    )
    none = np.zeros((len(factor), 0))
    return Solution(
        shrinkage=shrinkage,
        ridge=ridge,
        counts=counts,
        centre=centre,
        precision=Precision(factor=factor, directions=none, strengths=none[0]),
        solved=solved,
        kernel=kernel,
    )


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
    kernel = solution.kernel + np.outer(products, change) + np.outer(moved, products + length * change) / (count + 1)
    return replace(
        solution,
        counts=counts,
        centre=solution.centre + apart / ((count + 1) * len(counts)),
        precision=solution.precision.changed(along, count / (count + 1) * left),
        solved=solution.solved + np.outer(change, along).T,
        kernel=(kernel + kernel.T) / 2,
    )


def _with_class(solution: Solution, feature: Doubles) -> Solution:
    """Return the solved system with a further class of one example, which has no scatter."""
    classes = len(solution.counts) + 1
    apart = feature - solution.centre
    along = solution.precision.times(apart)
    products, length = apart @ solution.solved, apart @ along
    old = solution.kernel - (products[:, None] + products) / classes + length / classes**2
    beside = (products - length / classes) * ((classes - 1) / classes)
    own = length * ((classes - 1) / classes) ** 2
    return replace(
        solution,
        counts=np.append(solution.counts, 1.0),
        centre=solution.centre + apart / classes,
        solved=np.column_stack([solution.solved - along[:, None] / classes, along * ((classes - 1) / classes)]),
        kernel=np.block([[old, beside[:, None]], [beside, own]]),
    )
