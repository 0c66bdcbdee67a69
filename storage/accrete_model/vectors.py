"""Directions and probabilities.

Shapes: N vectors of length d, K scores.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_FEW = 100  # columns; up to here sorting all of a row is no slower than choosing first

_SMALLEST = np.float32(1e-12)  # keeps the direction of a zero vector defined


def unit(vectors: Floats) -> Floats:
    """Return the rows of `vectors` [N, d] scaled to length 1; a zero row stays zero."""
    lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))[:, None]
    directions: Floats = vectors / np.maximum(lengths, _SMALLEST)
    return directions


def softmax(scores: Floats) -> Floats:
    """Return probabilities [N, K] from scores [N, K], along K."""
    shifted: Floats = np.exp(scores - scores.max(axis=1, keepdims=True, initial=-np.inf))
    total: Floats = shifted.sum(axis=1, keepdims=True)
    return shifted / total


def log_total(scores: Floats) -> Floats:
    """Return log(sum(exp(scores))) [N, 1] along K of scores [N, K], K > 0."""
    highest: Floats = scores.max(axis=1, keepdims=True)
    total: Floats = np.exp(scores - highest).sum(axis=1, keepdims=True)
    return highest + np.log(total)


def highest(scores: Floats, count: int) -> tuple[NDArray[np.intp], Floats]:
    """Return the columns [N, k] of the k = min(count, K) highest scores of each row [N, K], and those scores.

    The highest come first, and of equal ones the first column; which of equal ones is the last to be chosen is left
    open.
    """
    rows = np.arange(len(scores))[:, None]
    if count >= scores.shape[1] or scores.shape[1] <= _FEW:
        columns = (-scores).argsort(axis=1, kind="stable")[:, :count]
    else:
        chosen = scores.argpartition(-count, axis=1)[:, -count:]
        chosen.sort(axis=1)
        columns = chosen[rows, (-scores[rows, chosen]).argsort(axis=1, kind="stable")]
    return columns, scores[rows, columns]
