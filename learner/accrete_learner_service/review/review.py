"""The review of what a step would learn, which sets aside what an operator should see first."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from accrete_learner_service.config import LearnerServiceConfig
from accrete_learner_service.evaluation.measure import load_checked, verified_folder
from accrete_learner_service.principal_shares import beyond_share
from accrete_learner_service.review.checks import bursts, contradicting, near_duplicates
from accrete_learner_service.runtime.lease import LeaseKeeper
from accrete_learner_service.runtime.logs import fields
from accrete_learner_service.runtime.metrics import Metrics
from accrete_model.artifact_store import ArtifactStore
from accrete_model.loaded_version import LoadedVersion
from accrete_model.scoring import Classifier
from accrete_storage.examples.pending import PendingEntry
from accrete_storage.store import Store

log = logging.getLogger(__name__)


class Reviewer:
    """Review each step's examples before they are read. What an operator has released is not reviewed again."""

    def __init__(
        self,
        store: Store,
        artifacts: ArtifactStore,
        lease: LeaseKeeper,
        config: LearnerServiceConfig,
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._artifacts = artifacts
        self._lease = lease
        self._floor = config.trigger.min_examples
        self._config = config.teaching
        self._metrics = metrics

    def review(self, labels: Iterable[str]) -> int:
        """Set aside what fails the checks among the pending examples of these labels, and return how many they are.

        Raises:
            VersionDamaged: the live version's files are damaged.
            StepFailed: it cannot be loaded.
            CorruptRecord: an example cannot be read.
            Fenced: another learner holds the lease.
            StoreUnavailable: the store does not answer.
        """
        config = self._config
        asked = config.review_confidence, config.review_duplicates, config.review_burst, config.training_share < 1
        if not any(asked):
            return 0
        with self._live() as live:
            return sum(self._review(label, live) for label in sorted(labels))

    def _review(self, label: str, live: tuple[LoadedVersion, Classifier] | None) -> int:
        entries = self._store.pending.read(label)
        reasons: dict[str, str] = {}
        for reason, found in self._check(label, [entry for entry in entries if not entry.reviewed], live):
            for entry in found:
                reasons.setdefault(entry.position, reason)
        left = [entry for entry in entries if entry.position not in reasons]
        reasons |= dict.fromkeys(self._beyond_share(label, left), "share")
        chosen = [(entry, reasons[entry.position]) for entry in entries if entry.position in reasons]
        moved = self._store.review.set_aside(self._lease.epoch, label, chosen) if chosen else 0
        for _, reason in chosen:
            self._metrics.count_reviewed(reason)
        if chosen:
            failed = sorted({reason for _, reason in chosen})
            self._store.events.append("reviewed", {"label": label, "examples": moved, "reasons": failed})
            log.warning("review.set_aside", extra=fields(label=label, examples=moved, reasons=failed))
        return moved

    def _check(
        self, label: str, entries: list[PendingEntry], live: tuple[LoadedVersion, Classifier] | None
    ) -> Iterator[tuple[str, list[PendingEntry]]]:
        """Yield each check's name with the examples that fail it."""
        config = self._config
        if live is not None and label in live[1].labels:
            yield "contradiction", contradicting(entries, label, *live, confidence=config.review_confidence)
        if config.review_duplicates:
            yield "duplicates", near_duplicates(entries, limit=config.review_duplicates)
        if config.review_burst:
            yield "burst", bursts(entries, limit=config.review_burst)

    def _beyond_share(self, label: str, entries: list[PendingEntry]) -> list[str]:
        """Return the positions of what exceeds a principal's share. What was released is counted and stays."""
        if self._config.training_share >= 1:
            return []
        training = [entry for entry in entries if not entry.holdout]
        counted = [entry.example for entry in sorted(training, key=lambda entry: not entry.reviewed)]
        beyond = beyond_share(
            self._store.memory.exemplars(label), counted, share=self._config.training_share, floor=self._floor
        )
        ids = {example.id for example in beyond}
        return [entry.position for entry in training if entry.example.id in ids and not entry.reviewed]

    @contextmanager
    def _live(self) -> Iterator[tuple[LoadedVersion, Classifier] | None]:
        """Yield the live version and its answers of labels that it knows and that are not forgotten, if it is there."""
        registry = self._store.registry
        version = registry.state().version
        if not (self._config.review_confidence and version):
            yield None
            return
        record = registry.version(version)
        if record.state != "ready":  # it was given up, and servers that have it in memory go on with it
            yield None
            return
        rows = record.row_labels(registry.forgotten())
        loaded = load_checked(verified_folder(self._artifacts, record), version)
        try:
            yield (loaded, loaded.classifier(labels=rows)) if any(rows) else None
        finally:
            loaded.close()
