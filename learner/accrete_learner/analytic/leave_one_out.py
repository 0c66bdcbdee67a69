"""What a head that never saw an example would answer for it, for many examples at once and without solving again.

Taking an example u = x - m_c away from its class of n changes the scatter by n / (n - 1) u u', the class's mean by
u / (n - 1), the centre by a C-th of that, and the class's noise from 1 / n to 1 / (n - 1). P changes by rank one
(Sherman and Morrison), K + Q by rank three (Woodbury), and all that the scores need are products with the C class
means. The amounts of shrinkage r and of noise n Q are those of all examples: they are chosen on all of them.

Shapes: n examples, d feature length, C classes that have examples. Names as in `discriminant`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from accrete_learner.analytic.discriminant import Solution, precision_for
from accrete_learner.analytic.drawn import Symmetric
from accrete_learner.analytic.statistics import Doubles, Labels, Reals

#: Scores that are computed at a time, so that what they need stays in the processor's cache, and the fewest examples,
#: for which a matrix is read once.
_CHUNK = 2**15
_LEAST_ROWS = 32


@dataclass(frozen=True, kw_only=True)
class Products:
    """Products of examples with the solved system, which do not depend on the drawing."""

    labels: Labels
    """[n], rows of the solution; each has two examples or more."""
    with_means: Reals
    """[n, C], M P z, of the precision in which scores are computed."""
    apart: Reals
    """[n, C], M P u, likewise."""
    norms: Doubles
    """[n], z' P z."""

    def part(self, which: slice) -> Products:
        """Return the products of some of the examples."""
        return Products(
            labels=self.labels[which],
            with_means=self.with_means[which],
            apart=self.apart[which],
            norms=self.norms[which],
        )


def products(solution: Solution, features: Doubles, labels: Labels) -> Products:
    """Return the products of features [n, d] of examples that the solution has seen, of classes [n].

    Raises:
        ValueError: when a class has no second example, without which nothing is left of it.
    """
    if (solution.counts[labels] < 2).any():
        raise ValueError("a class with one example has nothing to be judged by without it")
    kind = precision_for(len(solution.counts))
    with_means = (features - solution.centre).astype(kind) @ solution.solved.astype(kind)
    return Products(
        labels=labels,
        with_means=with_means,
        apart=with_means - solution.kernel_rows(labels, kind),
        norms=solution.norms(features),
    )


class Judge:
    """Scores examples by heads without them, with one drawing; what all examples share is computed once."""

    def __init__(self, solution: Solution, drawing: float) -> None:
        kind = precision_for(len(solution.counts))
        self._counts = solution.counts
        self._diagonal = solution.diagonal.astype(kind)
        self._noise = solution.noise(drawing)
        drawn = solution.drawn(drawing)
        self._matrices = None if drawn is None else drawn.matrices(kind)

    def scores(self, of: Products) -> Reals:
        """Return the scores [n, C] of each example by the head without it, in the products' precision."""
        result = np.empty_like(of.with_means)
        size = max(_LEAST_ROWS, _CHUNK // len(self._counts))
        for start in range(0, len(result), size):
            part = slice(start, start + size)
            result[part] = _scores(self._counts, self._diagonal, of.part(part), self._noise, self._matrices)
        return result


def _scores(
    counts: Doubles,
    diagonal: Reals,
    of: Products,
    noise: Doubles,
    matrices: tuple[Symmetric, Symmetric] | None,
) -> Reals:
    """Return the scores [n, C], given K's diagonal and T = (K + Q)^-1 and T Q T; None for Q = 0.

    What there is one number of per example is float64; arrays [n, C] are of the products' type.
    """
    rows, classes, own = np.arange(len(of.labels)), len(counts), of.labels
    kind = of.with_means.dtype
    count = counts[own]
    step, growth = 1 / (count - 1), count / (count - 1)
    g = of.apart
    to_example = of.norms - of.with_means[rows, own]  # u' P z
    h = to_example - g[rows, own]  # u' P u
    gain = growth / (1 - growth * h)
    sigma = 1 + gain * h
    a = np.full((len(rows), classes), -1 / classes, kind)
    a[rows, own] += 1

    def each(numbers: Doubles) -> Reals:
        column: Reals = numbers.astype(kind)[:, None]
        return column

    # b = M P z and the diagonal of K, both without the example.
    along_g = gain * to_example + step * sigma / classes
    along_a = -step * to_example - step * h * along_g
    b = of.with_means + each(along_g) * g + each(along_a) * a
    cross, square = -step * sigma, step**2 * h * sigma
    norms = diagonal + each(gain) * g * g + (each(2 * cross) * g + each(square) * a) * a
    if matrices is None:
        plain: Reals = b - norms / 2
        return plain

    inverse, doubled = matrices
    # T changes by -TU Z (TU)', with U = [g, a, e_c] and Z = (Y^-1 + U' T U)^-1, where K + Q changes by U Y U'.
    more = noise[own] * step  # of class c: n / (n - 1) - 1 = 1 / (n - 1)
    change = np.zeros((len(rows), 3, 3))
    change[:, 0, 0], change[:, 1, 1], change[:, 2, 2] = gain, square, more
    change[:, 0, 1] = change[:, 1, 0] = cross
    t_u, e_u = inverse.times(g, own), doubled.times(g, own)  # [3, n, C]
    z = np.linalg.solve(np.eye(3) + change @ _inner(g, rows, own, t_u), change).astype(kind)
    z_u = _mixed(z, t_u)
    # T b without the example's part; b = g + K e_c + ... and T K e_c = e_c - Q_c T e_c.
    t_b = each(1 + along_g) * t_u[0] + each(along_a) * t_u[1] - each(noise[own]) * t_u[2]
    t_b[rows, own] += 1
    for vector, product in zip(z_u, _inner_with(g, rows, own, t_b), strict=True):
        t_b -= product[:, None] * vector
    once = inverse.diagonal - (t_u * z_u).sum(axis=0)
    own_column = t_u[2].copy()
    for vector, product in zip(z_u, t_u[:, rows, own], strict=True):
        own_column -= product[:, None] * vector
    twice = doubled.diagonal + ((_mixed(_inner(g, rows, own, e_u), z_u) - 2 * e_u) * z_u).sum(axis=0)
    twice += each(more) * own_column**2
    noise_without = np.tile(noise.astype(kind), (len(rows), 1))
    noise_without[rows, own] += more.astype(kind)
    drawn = norms - 2 * noise_without + noise_without**2 * (3 * once - twice)
    result: Reals = b - noise_without * t_b - drawn / 2
    return result


def _mixed(small: Reals, vectors: Reals) -> Reals:
    """Return a matrix [n, 3, 3] times three vectors of each example [3, n, C]."""
    return np.stack([sum(small[:, row, k, None] * vectors[k] for k in range(3)) for row in range(3)])


def _inner_with(g: Reals, rows: Labels, own: Labels, vector: Reals) -> Reals:
    """Return the products of g, a and e_c with one vector of each example [n, C]: [3, n]."""
    at_own = vector[rows, own]
    return np.stack([np.einsum("nk,nk->n", g, vector), at_own - vector.mean(axis=1), at_own])


def _inner(g: Reals, rows: Labels, own: Labels, vectors: Reals) -> Reals:
    """Return the products of g, a and e_c with three vectors of each example [3, n, C]: [n, 3, 3]."""
    return np.stack([_inner_with(g, rows, own, vector) for vector in vectors]).transpose(2, 1, 0)
