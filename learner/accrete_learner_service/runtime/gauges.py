"""What the store holds, counted for the metrics."""

from __future__ import annotations

import time
from collections.abc import Mapping

from accrete_learner_service.config import LearnerServiceConfig
from accrete_learner_service.labels import known_labels
from accrete_learner_service.runtime.lease import LeaseKeeper
from accrete_learner_service.runtime.metrics import Metrics, Snapshot
from accrete_storage.errors import StoreUnavailable
from accrete_storage.examples.pending import PendingCount
from accrete_storage.store import Store
from accrete_storage.versions.record import VersionRecord


class GaugeUpdater:
    """Update the gauges from the store."""

    def __init__(self, store: Store, lease: LeaseKeeper, config: LearnerServiceConfig, metrics: Metrics) -> None:
        self._store = store
        self._lease = lease
        self._config = config
        self._metrics = metrics

    def update(self) -> None:
        """Read the store once.

        Raises:
            StoreUnavailable: the store does not answer; `accrete_store_up` is 0 then.
        """
        self._metrics.set_lease(self._lease.epoch_held)
        try:
            self._read()
        except StoreUnavailable:
            self._metrics.set_store_up(False)
            raise
        self._metrics.set_store_up(True)

    def _read(self) -> None:
        newest = self._store.registry.latest_ready()
        if newest is not None:
            self._metrics.set_quality(newest.version, newest.accuracy)
        self._metrics.set_snapshot(read_snapshot(self._store, self._config, newest))


def read_snapshot(store: Store, config: LearnerServiceConfig, newest: VersionRecord | None) -> Snapshot:
    """Return what the store holds now.

    Raises:
        StoreUnavailable: the store does not answer.
    """
    known = known_labels(newest, store.registry.forgotten())
    pending = store.pending.counts()
    quarantine = store.quarantine.entries()
    quarantined, awaiting = quarantine.keys(), {label for label, entry in quarantine.items() if entry.awaiting}
    kept = store.memory.total()
    info = store.info()
    return Snapshot(
        pending_new=_examples(pending, set(pending) - set(known) - quarantined),
        pending_known=_examples(pending, set(known) - quarantined),
        pending_quarantined=_examples(pending, quarantined - awaiting),
        pending_awaiting=_examples(pending, awaiting),
        review=store.review.total(),
        oldest_s=max((time.time() - count.oldest_ms / 1000 for count in pending.values()), default=0.0),
        exemplars=kept.exemplars,
        exemplar_bytes=kept.exemplar_bytes,
        exemplar_budget=config.memory.per_class(len(known)) * len(known) if known else 0,
        holdout=kept.holdout,
        classes=len(known),
        provisional=len(store.prototypes.all(store.registry.state().version).by_label),
        store_used=info.used_memory,
        store_max=info.max_memory,
    )


def _examples(pending: Mapping[str, PendingCount], labels: set[str]) -> int:
    return sum(pending[label].examples for label in labels if label in pending)
