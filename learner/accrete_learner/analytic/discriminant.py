"""A shrunk linear discriminant whose class means are drawn together, with equal priors, from sums alone.

All classes share one covariance, and the score of a class is its log density but for what all classes have in common:
f_k(x) = z' P m_k - m_k' P m_k / 2, with z = x - c, m_k the class's mean less c, c the mean of the class means,
P = (S + r I)^-1, S the scatter within the classes and r a shrinkage relative to the mean total scatter of a feature.
r > 0 keeps the system regular while there are fewer examples than features, from one example per class on.

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

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import linalg

from accrete_learner.analytic.statistics import Doubles, Statistics


@dataclass(frozen=True, kw_only=True)
class Solution:
    """The solved system for one shrinkage, from which heads for any drawing follow cheaply."""

    shrinkage: float
    counts: Doubles
    """[C]."""
    centre: Doubles
    """[d], the mean of the class means."""
    means: Doubles
    """[C, d], less the centre."""
    factor: Doubles
    """[d, d], the lower Cholesky factor of S + r I; the upper part is not set."""
    solved: Doubles
    """[d, C], P M'."""
    kernel: Doubles
    """[C, C], K = M P M'."""

    def noise(self, drawing: float) -> Doubles:
        """Return the diagonal of Q [C]: on average over classes `drawing` times the mean of K's diagonal."""
        inverse = 1 / self.counts
        noise: Doubles = drawing * np.trace(self.kernel) / inverse.sum() * inverse
        return noise

    def inverse(self, noise: Doubles) -> Doubles:
        """Return (K + Q)^-1 [C, C], given the diagonal of Q, which is above 0."""
        lower, _ = linalg.lapack.dpotrf(self.kernel + np.diag(noise), lower=1, clean=1)
        lower, _ = linalg.lapack.dpotri(lower, lower=1)
        inverse: Doubles = lower + np.tril(lower, -1).T
        return inverse

    def norms(self, features: Doubles) -> Doubles:
        """Return z' P z [n] of features [n, d]."""
        whitened = linalg.solve_triangular(self.factor, (features - self.centre).T, lower=True, check_finite=False)
        norms: Doubles = np.einsum("dn,dn->n", whitened, whitened)
        return norms

    def head(self, drawing: float) -> tuple[Doubles, Doubles]:
        """Return the weight [C, d] and bias [C] of the scores x @ weight.T + bias."""
        noise = self.noise(drawing)
        if not noise.any():
            weight, norms = self.solved.T, np.diag(self.kernel)
        else:
            drawn = np.eye(len(noise)) - self.inverse(noise) * noise  # [C, C], the transpose of K (K + Q)^-1
            weight, norms = (self.solved @ drawn).T, np.einsum("jk,jk->k", drawn, self.kernel @ drawn)
        return np.ascontiguousarray(weight), -norms / 2 - weight @ self.centre


_LEAST: Final = np.finfo(np.float64).tiny


def solve(statistics: Statistics, shrinkage: float) -> Solution:
    """Return the solved system over the classes that have examples.

    Args:
        statistics: of at least one example.
        shrinkage: above 0, in units of the mean over features of their total scatter.

    Raises:
        ValueError: when there is no example, or the sums have no solution.
    """
    present = statistics.counts > 0
    if not present.any():
        raise ValueError("there is no example to learn from")
    counts, sums = statistics.counts[present], statistics.sums[present]
    scaled = sums / np.sqrt(counts)[:, None]
    within = statistics.gram - scaled.T @ scaled
    total = np.trace(statistics.gram) - np.square(sums.sum(axis=0)).sum() / counts.sum()
    # All examples may be one point, of which only the length says anything about the scale.
    scale = total if total > 1e-12 * np.trace(statistics.gram) else np.trace(statistics.gram)
    within[np.diag_indices_from(within)] += max(shrinkage * scale / len(within), _LEAST)
    try:
        factor: Doubles = linalg.cholesky(within, lower=True, overwrite_a=True, check_finite=False)
    except linalg.LinAlgError as error:
        raise ValueError(f"the sums of features have no solution at shrinkage {shrinkage:g}") from error
    means = sums / counts[:, None]
    centre = means.mean(axis=0)
    means -= centre
    solved: Doubles = linalg.cho_solve((factor, True), means.T, check_finite=False)
    return Solution(
        shrinkage=shrinkage,
        counts=counts,
        centre=centre,
        means=means,
        factor=factor,
        solved=solved,
        kernel=means @ solved,
    )
