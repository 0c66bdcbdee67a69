"""The learner's reports of its status and of how far a step is."""

from __future__ import annotations

import logging
import time

from accrete_learner_service.runtime.lease import LeaseKeeper
from accrete_learner_service.runtime.logs import fields
from accrete_learner_service.runtime.metrics import Metrics
from accrete_learner_service.runtime.status import Progress, Status
from accrete_storage.errors import Fenced, StoreUnavailable
from accrete_storage.store import Store

log = logging.getLogger(__name__)

#: Least seconds between two progress events of one stage: the store keeps some thousands of events in all.
PROGRESS_EVERY_S = 0.2


class Reporter:
    """Report to the store's events, the log and the metrics alike."""

    def __init__(self, store: Store, lease: LeaseKeeper, metrics: Metrics) -> None:
        self._store = store
        self._lease = lease
        self._metrics = metrics
        self._reported: tuple[int, Status, str] | None = None
        """Epoch, status and reason that the store has."""
        self._stage = ""
        self._progress_at_s = 0.0

    def status(self, status: Status, reason: str = "") -> None:
        """Report what the learner does now, once for each change. A store that is away misses it.

        Raises:
            Interrupted: the lease is not held.
            Fenced: another learner holds it.
        """
        epoch = self._lease.epoch
        if self._reported == (epoch, status, reason):
            return
        self._metrics.set_status(status)
        log.info("learner.status", extra=fields(status=status, reason=reason))
        try:
            accepted = self._store.control.set_phase(epoch, status, reason)
        except StoreUnavailable as error:
            self._reported = None
            log.warning("status.not_reported", extra=fields(reason=str(error)))
            return
        if not accepted:
            raise Fenced(f"epoch {epoch} is over: another learner holds the lease")
        self._reported = (epoch, status, reason)

    def progress(self, version: int, progress: Progress) -> None:
        """Report how far the trainer is, not more often than anyone can read, and the last of a stage always."""
        now = time.monotonic()
        finished = progress.done >= progress.total
        if progress.stage == self._stage and not finished and now - self._progress_at_s < PROGRESS_EVERY_S:
            return
        self._stage, self._progress_at_s = progress.stage, now
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
            log.debug("progress.not_reported", extra=fields(reason=str(error)))
