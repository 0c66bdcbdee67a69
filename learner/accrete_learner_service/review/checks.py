"""The checks of one label's pending examples, for what may not have been taught in good faith.

Shapes: n examples, d length of an embedding.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accrete_learner_service.evaluation.measure import compute_features
from accrete_model.loaded_version import LoadedVersion
from accrete_model.scoring import Classifier
from accrete_storage.examples.ids import position_key
from accrete_storage.examples.pending import PendingEntry

#: Milliseconds within which many examples of one principal are a burst.
BURST_MS = 60_000
#: Bits of 64 in which two fingerprints of nearly the same content may differ.
NEAR_BITS = 4
_SIDE = 8


def contradicting(
    entries: Sequence[PendingEntry], label: str, loaded: LoadedVersion, classifier: Classifier, *, confidence: float
) -> list[PendingEntry]:
    """Return the examples that the model gives another label with a probability of at least `confidence`."""
    fit = [entry for entry in entries if entry.example.tensor.shape == loaded.spec.shape]
    if not fit:
        return []
    probabilities = classifier(compute_features(loaded, [entry.example for entry in fit]))  # [n, K]
    best, sure = probabilities.argmax(axis=1), probabilities.max(axis=1) >= confidence
    return [
        entry
        for entry, row, is_sure in zip(fit, best, sure, strict=True)
        if is_sure and classifier.labels[row] != label
    ]


def near_duplicates(entries: Sequence[PendingEntry], *, limit: int) -> list[PendingEntry]:
    """Return the examples after the first `limit` of nearly the same content, in order of arrival."""
    leaders = np.zeros(len(entries), np.uint64)
    followers: list[int] = []
    found = []
    for entry in entries:
        print_ = fingerprint(entry.example.tensor)
        count = len(followers)
        near = np.flatnonzero(np.bitwise_count(leaders[:count] ^ print_) <= NEAR_BITS)
        if len(near):
            followers[near[0]] += 1
            if followers[near[0]] > limit:
                found.append(entry)
        else:
            leaders[count] = print_
            followers.append(1)
    return found


def bursts(entries: Sequence[PendingEntry], *, limit: int) -> list[PendingEntry]:
    """Return the examples that were among more than `limit` of one principal within a minute."""
    by_principal: dict[str, list[PendingEntry]] = defaultdict(list)
    for entry in entries:
        by_principal[entry.example.principal].append(entry)
    found = []
    for own in by_principal.values():
        times = np.array([position_key(entry.position)[0] for entry in own])
        inside = np.zeros(len(own) + 1, np.int64)
        for first, last in enumerate(np.searchsorted(times, times + BURST_MS)):
            if last - first > limit:  # a minute that begins with `first` has too many: all of them are marked
                inside[first] += 1
                inside[last] -= 1
        found += [entry for entry, depth in zip(own, inside.cumsum(), strict=False) if depth]
    return found


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
