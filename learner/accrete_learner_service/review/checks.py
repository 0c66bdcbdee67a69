"""The checks of one label's pending examples, for what may not have been taught in good faith.

Shapes: n examples, d length of an embedding.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from accrete_learner_service.evaluation.measure import compute_features
from accrete_model.loaded_version import LoadedVersion
from accrete_model.scoring import Classifier
from accrete_storage.examples.fingerprint import fingerprint, near_ones
from accrete_storage.examples.ids import position_key
from accrete_storage.examples.pending import PendingEntry

#: Milliseconds within which many examples of one principal are a burst.
BURST_MS = 60_000


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
        near = near_ones(leaders[:count], print_)
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
