"""Prototypes of the classes that the active version does not know, so that they can be answered before any step.

Shapes: N examples, d feature length.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from accrete_engine.errors import LoadError
from accrete_engine.loaded import LoadedVersion, load
from accrete_learner_service.logs import fields
from accrete_learner_service.measure import BATCH, ENGINE
from accrete_learner_service.staging import kept_labels
from accrete_storage.artifacts import ArtifactStore
from accrete_storage.errors import StoreUnavailable
from accrete_storage.example import Example
from accrete_storage.pending import PendingCount
from accrete_storage.store import Store

log = logging.getLogger(__name__)

#: Examples that a prototype is the mean of, at most; a mean moves little after that many.
MAX_EXAMPLES = 64
#: A prototype is computed anew once there are this many times the examples that it was made of.
GROWTH = 1.5
#: Prototypes are computed anew after this many seconds at the latest: the store lets those expire that no one renews.
RENEW_S = 86_400


class Prototypes:
    """Keeps the store's prototypes in step with what is pending. For one thread."""

    def __init__(self, store: Store, artifacts: ArtifactStore) -> None:
        self._store = store
        self._artifacts = artifacts
        self._basis = (0, 0)
        """Version and revision that the prototypes were computed at."""
        self._loaded: LoadedVersion | None = None
        self._counts: dict[str, int] = {}
        """Examples that each prototype was made of."""
        self._announced: set[str] = set()
        self._rebased_s = 0.0

    def update(self) -> None:
        """Computes what is missing or outgrown, drops what is learned or gone.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        state = self._store.registry.state()
        outdated = time.monotonic() - self._rebased_s > RENEW_S
        if outdated or (state.version, state.revision) != self._basis:
            self._rebase(state.version, state.revision)
        if self._loaded is None:
            return
        wanted = self._wanted(state.version)
        self._drop(self._counts.keys() - wanted.keys())
        for label, count in wanted.items():
            if label not in self._counts or count >= GROWTH * self._counts[label]:
                self._compute(label, count)

    def close(self) -> None:
        """Frees the engine."""
        if self._loaded is not None:
            self._loaded.close()
            self._loaded = None

    def _rebase(self, version: int, revision: int) -> None:
        """Starts over: another version has other features, and a deleted example must leave the mean it was in."""
        if version != self._basis[0]:
            self.close()
            self._loaded = self._load(version)
        # What an earlier learner left may be the mean of an example deleted since: compute anew.
        self._counts = {}
        if self._loaded is not None:
            stored, wanted = self._store.prototypes.all(version).keys(), self._wanted(version).keys()
            self._store.prototypes.drop(version, sorted(stored - wanted))
            self._announced = (self._announced | stored) & wanted
        self._basis, self._rebased_s = (version, revision), time.monotonic()

    def _load(self, version: int) -> LoadedVersion | None:
        if version == 0:
            return None
        try:
            return load(self._artifacts.path(version), version, ENGINE)
        except LoadError as error:
            log.error("prototypes.no_version", extra=fields(version=version, reason=str(error)))
            return None

    def _wanted(self, version: int) -> dict[str, int]:
        """Examples at hand for each pending class that the active version does not answer."""
        known = set(kept_labels(self._store.registry.version(version), self._store.registry.forgotten()))
        counts = self._store.pending.counts()
        usable = {label: _usable(count) for label, count in counts.items() if label not in known}
        return {label: count for label, count in usable.items() if count > 0}

    def _compute(self, label: str, count: int) -> None:
        assert self._loaded is not None
        try:
            examples = _first(self._store, label)
            vector = mean_direction(self._loaded, examples) if examples else None
        except StoreUnavailable:
            raise
        except Exception as error:
            # One class with an example that cannot be read or computed must not end the learner for the others.
            log.warning("class.not_provisional", extra=fields(label=label, reason=str(error)))
            self._counts[label] = count
            return
        if vector is None:
            return
        self._store.prototypes.put(self._basis[0], label, vector, len(examples))
        self._counts[label] = count
        if label not in self._announced:
            self._announced.add(label)
            self._store.events.append("provisional", {"label": label, "examples": len(examples)})
            log.info("class.provisional", extra=fields(label=label, examples=len(examples)))

    def _drop(self, labels: set[str]) -> None:
        if not labels:
            return
        self._store.prototypes.drop(self._basis[0], sorted(labels))
        for label in labels:
            self._counts.pop(label, None)
            self._announced.discard(label)


def mean_direction(loaded: LoadedVersion, examples: Sequence[Example]) -> NDArray[np.float32]:
    """The mean of the examples' unit-length features, at unit length [d], like the class means of a trained version."""
    batches = [examples[start : start + BATCH] for start in range(0, len(examples), BATCH)]
    features = np.concatenate([loaded.features(np.stack([e.tensor for e in batch])) for batch in batches])  # [N, d]
    mean = _unit(features).mean(axis=0, keepdims=True)
    vector: NDArray[np.float32] = _unit(mean)[0].astype(np.float32)
    return vector


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: NDArray[np.float32] = vectors / np.maximum(lengths, np.float32(1e-12))
    return unit


def _usable(count: PendingCount) -> int:
    return min(count.examples - count.holdout, MAX_EXAMPLES)


def _first(store: Store, label: str) -> list[Example]:
    """The oldest pending examples of a class that are not set aside for the hold-out."""
    counts: Mapping[str, PendingCount] = store.pending.counts()
    if label not in counts:
        return []
    entries = store.pending.read(label, limit=MAX_EXAMPLES + counts[label].holdout)
    return [entry.example for entry in entries if not entry.holdout][:MAX_EXAMPLES]
