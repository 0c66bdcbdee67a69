"""Directions and probabilities.

Shapes: N vectors of length d, K scores.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_SMALLEST = np.float32(1e-12)  # keeps the direction of a zero vector defined


def unit(vectors: Floats) -> Floats:
    """The rows of `vectors` scaled to length 1; a zero row stays zero."""
    lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))[:, None]
    directions: Floats = vectors / np.maximum(lengths, _SMALLEST)
    return directions


def softmax(scores: Floats) -> Floats:
    """Probabilities from scores [N, K], along K."""
    shifted: Floats = np.exp(scores - scores.max(axis=1, keepdims=True, initial=-np.inf))
    total: Floats = shifted.sum(axis=1, keepdims=True)
    return shifted / total


def log_total(scores: Floats) -> Floats:
    """log(sum(exp(scores))) along K of scores [N, K], K > 0, as [N, 1]."""
    highest: Floats = scores.max(axis=1, keepdims=True)
    total: Floats = np.exp(scores - highest).sum(axis=1, keepdims=True)
    return highest + np.log(total)
