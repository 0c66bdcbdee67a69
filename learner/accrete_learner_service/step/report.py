"""What the learner tells the world while it works: phase, progress, and how a step ended."""

from __future__ import annotations

import logging
import time

from accrete_learner_service.lease import LeaseKeeper
from accrete_learner_service.runtime.logs import fields
from accrete_learner_service.runtime.metrics import Metrics
from accrete_learner_service.trainer.child import Progress
from accrete_storage.errors import Fenced, StoreUnavailable
from accrete_storage.store import Store

log = logging.getLogger(__name__)

#: Least seconds between two progress events of one stage: the store keeps some thousands of events in all.
PROGRESS_EVERY_S = 0.2


class Report:
    """Speaks to the store's events, the log and the metrics alike."""

    def __init__(self, store: Store, lease: LeaseKeeper, metrics: Metrics) -> None:
        self._store = store
        self._lease = lease
        self._metrics = metrics
        self._phase: tuple[int, str, str] | None = None
        self._stage = ""
        self._told = 0.0

    def phase(self, phase: str, reason: str = "") -> None:
        """Says what the learner does now, once for each change; a store that is away misses it, the step goes on.

        Raises:
            Interrupted: the lease is not held.
            Fenced: another learner holds it.
        """
        epoch = self._lease.epoch
        if self._phase == (epoch, phase, reason):
            return
        self._metrics.set_phase(phase)
        log.info("phase", extra=fields(phase=phase, reason=reason))
        try:
            told = self._store.control.set_phase(epoch, phase, reason)
        except StoreUnavailable as error:
            self._phase = None
            log.warning("phase.not_told", extra=fields(reason=str(error)))
            return
        if not told:
            raise Fenced(f"epoch {epoch} is over: another learner holds the lease")
        self._phase = (epoch, phase, reason)

    def progress(self, version: int, progress: Progress) -> None:
        """Passes on how far the trainer is, not more often than anyone can read; the last of a stage always."""
        now = time.monotonic()
        finished = progress.done >= progress.total
        if progress.stage == self._stage and not finished and now - self._told < PROGRESS_EVERY_S:
            return
        self._stage, self._told = progress.stage, now
        if progress.loss is not None:
            self._metrics.set_loss(progress.loss)
        body = {
            "version": version,
            "stage": progress.stage,
            "done": progress.done,
            "total": progress.total,
            "loss": progress.loss,
        }
        try:
            self._store.events.append("progress", body)
        except StoreUnavailable as error:
            log.debug("progress.not_told", extra=fields(reason=str(error)))
