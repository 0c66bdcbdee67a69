"""Prototypes of the classes that the active version does not know, so that they can be answered before any step.

Shapes: N examples, d feature length.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from accrete_learner_service.config import LearnerServiceConfig
from accrete_learner_service.evaluation.measure import ENGINE, Handover, compute_features
from accrete_learner_service.provisional.calibration import Calibration, allowed_drop
from accrete_learner_service.runtime.logs import fields
from accrete_model.artifact_store import ArtifactStore
from accrete_model.errors import CorruptArtifact, LoadError
from accrete_model.loaded_version import LoadedVersion, load
from accrete_model.vectors import Floats, unit
from accrete_storage.errors import StoreUnavailable
from accrete_storage.examples.example import Example
from accrete_storage.examples.pending import PendingCount
from accrete_storage.store import Store
from accrete_storage.versions.prototypes import Prototype

log = logging.getLogger(__name__)

#: Examples that a prototype is the mean of, at most; a mean moves little after that many.
MAX_EXAMPLES = 64
#: Seconds of work, on the hold-out or on prototypes, between two looks at what is live, deleted and pending.
SLICE_S = 0.2
#: A prototype is computed anew once there are this many times the examples that it was made of.
GROWTH = 1.5
#: Prototypes are computed anew after this many seconds at the latest: the store lets those expire that no one renews.
RENEW_S = 86_400


class PrototypeUpdater:
    """Keep the store's prototypes in step with what is pending. For one thread."""

    def __init__(
        self, store: Store, artifacts: ArtifactStore, handover: Handover, config: LearnerServiceConfig
    ) -> None:
        """Prepare to update. A step leaves in `handover` what it has computed of a version that goes live after it."""
        self._store = store
        self._handover = handover
        self._artifacts = artifacts
        self._config = config
        self._basis = (0, 0)
        """Version and revision that the prototypes were computed at."""
        self._loaded: LoadedVersion | None = None
        self._calibration: Calibration | None = None
        self._known: frozenset[str] = frozenset()
        """Labels that the version answers by itself."""
        self._counts: dict[str, int] = {}
        """Examples at hand when each label was last computed."""
        self._vectors: dict[str, Floats] = {}
        """By label, each [d]: the prototypes that are published."""
        self._announced: set[str] = set()
        self._rebased_s = 0.0

    def update(self) -> None:
        """Compute what is missing or outgrown, as much as fits into a slice, and drop what is learned or gone.

        Raises:
            StoreUnavailable: the store does not answer.
            BucketUnavailable: the bucket that has the version cannot be used now.
        """
        state = self._store.registry.state()
        outdated = time.monotonic() - self._rebased_s > RENEW_S
        if outdated or (state.version, state.revision) != self._basis:
            self._rebase(state.version, state.revision)
        if self._calibration is None:
            return
        if not self._calibration.complete:
            self._calibration.go_on(SLICE_S)
            self._publish({})
        wanted = self._wanted()
        self._drop(self._vectors.keys() - wanted.keys())
        self._compute({label: count for label, count in wanted.items() if self._is_due(label, count)})

    def close(self) -> None:
        """Free the engine."""
        if self._loaded is not None:
            self._loaded.close()
            self._loaded = self._calibration = None

    def _rebase(self, version: int, revision: int) -> None:
        """Start over, for another version has other features, and a deleted example must leave the mean it was in."""
        if version != self._basis[0]:
            self.close()
            self._loaded = self._load(version)
            computed = self._handover.take(version)
            self._calibration = Calibration(self._store, self._loaded, computed) if self._loaded else None
        # What an earlier learner left may be the mean of an example deleted since: compute anew.
        self._counts = {}
        if self._calibration is not None:
            record, forgotten = self._store.registry.version(version), self._store.registry.forgotten()
            self._known = frozenset(record.kept_labels(forgotten))
            self._calibration.restart(record.row_labels(forgotten))
            stored, wanted = self._store.prototypes.all(version).by_label, self._wanted().keys()
            self._store.prototypes.drop(version, sorted(stored.keys() - wanted))
            self._announced = (self._announced | stored.keys()) & wanted
            # They count for the margin until they are replaced.
            self._vectors = {label: stored[label].vector for label in stored.keys() & wanted}
        self._basis, self._rebased_s = (version, revision), time.monotonic()

    def _load(self, version: int) -> LoadedVersion | None:
        if version == 0:
            return None
        try:
            files = self._artifacts.find(version, self._store.registry.version(version).digest)
            return load(files, version, ENGINE)
        except (LoadError, CorruptArtifact) as error:
            log.error("prototypes.no_version", extra=fields(version=version, reason=str(error)))
            return None

    def _wanted(self) -> dict[str, PendingCount]:
        """Return each pending class that the active version does not answer, once it has enough examples."""
        least = self._config.provisional_min_examples
        # Read before the quarantine, in which a label that awaits approval is from its first example on.
        counts = self._store.pending.counts()
        unapproved = {label for label, entry in self._store.quarantine.entries().items() if entry.awaiting}
        left_out = self._known | unapproved
        return {
            label: count
            for label, count in counts.items()
            if label not in left_out and count.examples >= least and _usable(count) > 0
        }

    def _is_due(self, label: str, count: PendingCount) -> bool:
        return label not in self._counts or _usable(count) >= GROWTH * self._counts[label]

    def _compute(self, due: Mapping[str, PendingCount]) -> None:
        """Publish the prototypes of as many as fit into a slice, one at least."""
        until = time.monotonic() + SLICE_S
        found: dict[str, Prototype] = {}
        for label, count in due.items():
            prototype = self._prototype(label, count)
            if prototype is not None:
                found[label] = prototype
            if time.monotonic() > until:
                break
        self._vectors |= {label: prototype.vector for label, prototype in found.items()}
        if found and not self._publish(found):
            return
        for label, prototype in found.items():
            self._counts[label] = _usable(due[label])
            self._announce(label, prototype.count)

    def _prototype(self, label: str, count: PendingCount) -> Prototype | None:
        assert self._loaded is not None
        try:
            examples = _first(self._store, label, count)
            if not examples:
                return None
            return Prototype(vector=mean_direction(compute_features(self._loaded, examples)), count=len(examples))
        except StoreUnavailable:
            raise
        except Exception as error:
            # One class with an example that cannot be read or computed must not end the learner for the others.
            log.warning("class.not_provisional", extra=fields(label=label, reason=str(error)))
            self._counts[label] = _usable(count)
            return None

    def _announce(self, label: str, examples: int) -> None:
        if label not in self._announced:
            self._announced.add(label)
            self._store.events.append("provisional", {"label": label, "examples": examples})
            log.info("class.provisional", extra=fields(label=label, examples=examples))

    def _drop(self, labels: set[str]) -> None:
        if not labels:
            return
        self._store.prototypes.drop(self._basis[0], sorted(labels))
        for label in labels:
            self._counts.pop(label, None)
            del self._vectors[label]
            self._announced.discard(label)
        self._publish({})

    def _publish(self, changed: Mapping[str, Prototype]) -> bool:
        """Write what changed, with the margin that all prototypes together need.

        Returns:
            False where something was deleted or renamed meanwhile; the next turn computes all of them anew.
        """
        assert self._calibration is not None
        if not self._vectors:
            return True
        allowed = allowed_drop(self._config, new=len(self._vectors), known=len(self._known))
        margin = self._calibration.margin(list(self._vectors.values()), allowed)
        version, revision = self._basis
        return self._store.prototypes.put(version, changed, margin, revision=revision)


def mean_direction(features: Floats) -> Floats:
    """Return the mean of features [N, d] at unit length, at unit length itself [d], as a version's class means are."""
    direction: Floats = unit(unit(features).mean(axis=0, keepdims=True))[0]
    return direction


def _usable(count: PendingCount) -> int:
    """Return how many examples a prototype of the class would be the mean of."""
    return min(count.examples - count.holdout, MAX_EXAMPLES)


def _first(store: Store, label: str, count: PendingCount) -> list[Example]:
    """Return the oldest pending examples of a class that are not set aside for the hold-out."""
    entries = store.pending.read(label, limit=MAX_EXAMPLES + count.holdout)
    return [entry.example for entry in entries if not entry.holdout][:MAX_EXAMPLES]
