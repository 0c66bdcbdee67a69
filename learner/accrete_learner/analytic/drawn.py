"""Class means that are drawn together: T = (K + Q)^-1, and what is needed of it.

K = M P M' is [C, C], and its rank is the number of features at most. With no more classes than features T is made as a
matrix. With more it never is: by Woodbury's identity

    T = Q^-1 - V V',  T Q T = Q^-1 - (V F) (V F)'

with V = Q^-1 M R^-T [C, d], R R' = P^-1 + M' Q^-1 M, and F F' = 2 I - V' Q V. So C classes take C d^2 operations rather
than C^3: at 10,000 classes and 1,280 features one part in 60, and no matrix of 0.8 GB.

Shapes and names as in `discriminant`; n examples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from accrete_learner.analytic.statistics import Doubles, Labels, Reals

Kind = type[np.floating[Any]]


class Symmetric(Protocol):
    """A symmetric matrix [C, C], in the precision in which scores are computed."""

    @property
    def diagonal(self) -> Reals:
        """[C]."""

    def times(self, g: Reals, own: Labels) -> Reals:
        """Return the matrix times g, a and e_c of each example [3, n, C].

        Args:
            g: [n, C].
            own: c [n], the examples' classes; a is e_c less the mean of all e.
        """


class Drawn(Protocol):
    """Means drawn with one noise Q."""

    def matrices(self, kind: Kind) -> tuple[Symmetric, Symmetric]:
        """Return T and T Q T."""

    def head(self, solved: Doubles, kind: Kind) -> tuple[Reals, Doubles]:
        """Return the weight [C, d] of P M' = `solved` [d, C], and the drawn means' m' P m [C]."""


class DrawnByMatrix:
    """For no more classes than features."""

    def __init__(self, kernel: Doubles, noise: Doubles) -> None:
        """Invert K + Q.

        Args:
            kernel: K.
            noise: the diagonal of Q [C], above 0.
        """
        from scipy import linalg  # not above: a third of a second, which trainers of networks do without

        lower, _ = linalg.lapack.dpotrf(kernel + np.diag(noise), lower=1, clean=1)
        lower, _ = linalg.lapack.dpotri(lower, lower=1)
        self._inverse: Doubles = lower + np.tril(lower, -1).T
        self._kernel = kernel
        self._noise = noise

    def matrices(self, kind: Kind) -> tuple[Symmetric, Symmetric]:
        """Return T and T Q T."""
        inverse = self._inverse.astype(kind)
        half = inverse * np.sqrt(self._noise).astype(kind)
        return _Matrix.of(inverse), _Matrix.of(half @ half.T)

    def head(self, solved: Doubles, kind: Kind) -> tuple[Reals, Doubles]:
        """Return the weight [C, d] and the drawn means' m' P m [C]."""
        # With K T = I - Q T, the drawn means' products are K - Q + Q T Q, and need none of K.
        inverse, noise = self._inverse, self._noise
        drawn = np.eye(len(noise)) - inverse * noise
        products = self._kernel + noise[:, None] * inverse * noise
        products[np.diag_indices_from(products)] -= noise
        return (solved.astype(kind) @ drawn.astype(kind)).T, np.einsum("jk,jk->k", drawn, products)


class DrawnByFactors:
    """For more classes than features."""

    def __init__(self, scatter: Doubles, means: Doubles, noise: Doubles) -> None:
        """Solve for V.

        Args:
            scatter: P^-1 [d, d].
            means: M.
            noise: the diagonal of Q [C], above 0.
        """
        from scipy import linalg

        scaled = means / noise[:, None]
        products = means.T @ scaled
        root = linalg.cholesky(scatter + products, lower=True, overwrite_a=True, check_finite=False)
        self._v: Doubles = linalg.solve_triangular(root, scaled.T, lower=True, check_finite=False).T
        half = linalg.solve_triangular(root, products, lower=True, check_finite=False)
        self._squares: Doubles = linalg.solve_triangular(root, half.T, lower=True, check_finite=False)  # V' Q V
        self._means = means
        self._noise = noise

    def matrices(self, kind: Kind) -> tuple[Symmetric, Symmetric]:
        """Return T and T Q T."""
        doubled = self._v @ np.linalg.cholesky(2 * np.eye(len(self._squares)) - self._squares)
        return _Lessened.of(1 / self._noise, self._v, kind), _Lessened.of(1 / self._noise, doubled, kind)

    def head(self, solved: Doubles, kind: Kind) -> tuple[Reals, Doubles]:
        """Return the weight [C, d] and the drawn means' m' P m [C]."""
        # I - T Q = V V' Q and K - Q + Q T Q = K - Q V V' Q.
        q_v, along = self._noise[:, None] * self._v, solved @ self._v
        products = self._means @ along - q_v @ self._squares
        return q_v.astype(kind) @ along.T.astype(kind), np.einsum("kd,kd->k", q_v, products)


@dataclass(frozen=True)
class _Matrix:
    """A matrix as it is, and the mean of its rows."""

    matrix: Reals
    diagonal: Reals
    mean: Reals

    @classmethod
    def of(cls, matrix: Reals) -> _Matrix:
        return cls(matrix, np.diag(matrix).copy(), matrix.mean(axis=0))

    def times(self, g: Reals, own: Labels) -> Reals:
        columns = self.matrix[own]
        return np.stack([g @ self.matrix, columns - self.mean, columns])


@dataclass(frozen=True)
class _Lessened:
    """A diagonal less A A', and the mean of its rows."""

    plain: Reals
    """[C], the diagonal before A A' is taken off."""
    factors: Reals
    """A [C, d]."""
    diagonal: Reals
    mean: Reals

    @classmethod
    def of(cls, plain: Doubles, factors: Doubles, kind: Kind) -> _Lessened:
        diagonal = plain - np.einsum("kd,kd->k", factors, factors)
        mean = (plain - factors @ factors.sum(axis=0)) / len(plain)
        return cls(plain.astype(kind), factors.astype(kind), diagonal.astype(kind), mean.astype(kind))

    def times(self, g: Reals, own: Labels) -> Reals:
        columns = -(self.factors[own] @ self.factors.T)
        columns[np.arange(len(own)), own] += self.plain[own]
        return np.stack([g * self.plain - (g @ self.factors) @ self.factors.T, columns - self.mean, columns])
