"""Fingerprints, by which images or embeddings of nearly the same content are known.

Shapes: n fingerprints, d length of an embedding.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

NEAR_BITS = 4
"""Bits of 64 in which two fingerprints of nearly the same content may differ."""

_SIDE = 8


def near_ones(fingerprints: NDArray[np.uint64], one: np.uint64) -> NDArray[np.intp]:
    """Return the places of the fingerprints [n] of which `one` is of nearly the same content."""
    return np.flatnonzero(np.bitwise_count(fingerprints ^ one) <= NEAR_BITS)


def fingerprint(tensor: NDArray[Any]) -> np.uint64:
    """Return 64 bits that small changes of the content leave nearly alone.

    Of an image [height, width, channels]: which parts of an 8 x 8 grid are brighter than their median. Of an embedding
    [d]: on which side of 64 fixed hyperplanes it lies (Charikar, Similarity estimation techniques from rounding
    algorithms, STOC 2002).
    """
    if tensor.ndim == 1:
        bits = np.random.default_rng(0).standard_normal((64, len(tensor)), np.float32) @ tensor > 0
    else:
        grid = _means(_means(tensor.mean(axis=2, dtype=np.float64), axis=0), axis=1)
        bits = (grid > np.median(grid)).ravel()
    value: np.uint64 = np.packbits(bits).view(np.uint64)[0]
    return value


def _means(values: NDArray[Any], axis: int) -> NDArray[Any]:
    """Return the means of eight stretches along an axis."""
    edges = np.linspace(0, values.shape[axis], _SIDE + 1).astype(int)
    shape = [1, 1]
    shape[axis] = _SIDE
    sums: NDArray[Any] = np.add.reduceat(values, edges[:-1], axis=axis)
    return sums / np.maximum(np.diff(edges), 1).reshape(shape)
