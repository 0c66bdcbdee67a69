"""The lease that lets one learner work at a time, and lets it stop by itself when it can no longer be sure."""

from __future__ import annotations

import logging
import threading
import time

from accrete_kit.periodic import PeriodicTask
from accrete_learner_service.errors import Interrupted
from accrete_learner_service.runtime.logs import fields
from accrete_storage.errors import Fenced, StoreUnavailable
from accrete_storage.store import Store
from accrete_storage.versions.commit import Lease

log = logging.getLogger(__name__)

#: Renewals in one lease time, so that two may be lost before it is.
_RENEWALS = 3


class LeaseKeeper:
    """Acquire the lease and renew it from a thread of its own, whatever else the process is busy with.

    Correctness does not rest on it: the store checks the epoch at each commit. It keeps two learners from doing the
    same work, and lets one that was replaced know soon.
    """

    def __init__(self, store: Store, *, owner: str, ttl_s: float) -> None:
        self._store = store
        self._owner = owner
        self._ttl_s = ttl_s
        self._lock = threading.Lock()
        self._lease: Lease | None = None
        self._renewed = 0.0
        self._task = PeriodicTask("lease", self._renew_or_drop, every_s=ttl_s / _RENEWALS)

    def start(self) -> None:
        """Start renewing."""
        self._task.start()

    @property
    def held(self) -> bool:
        """Whether the lease is surely held, as one that was renewed within its time by this machine's clock."""
        return self.epoch_held is not None

    @property
    def epoch_held(self) -> int | None:
        """The epoch of the lease, or None while it is not surely held."""
        with self._lock:
            surely = self._lease is not None and time.monotonic() - self._renewed < self._ttl_s
            return self._lease.epoch if self._lease is not None and surely else None

    @property
    def epoch(self) -> int:
        """The epoch to act under.

        Raises:
            Interrupted: the lease is not held.
        """
        epoch = self.epoch_held
        if epoch is None:
            raise Interrupted("the lease is lost")
        return epoch

    def acquire(self) -> bool:
        """Try to get the lease once, and return whether it is held now."""
        asked = time.monotonic()
        lease = self._store.acquire_lease(self._owner, self._ttl_s)
        if lease is None:
            return False
        with self._lock:
            self._lease, self._renewed = lease, asked
        log.info("lease.acquired", extra=fields(owner=self._owner, epoch=lease.epoch))
        return True

    def renew(self) -> None:
        """Renew now, to be sure at this moment.

        Raises:
            Interrupted: it was lost.
            StoreUnavailable: the store does not say.
        """
        with self._lock:
            lease = self._lease
        if lease is None:
            raise Interrupted("the lease is lost")
        asked = time.monotonic()
        try:
            lease.renew()
        except Fenced as error:
            self.drop("another learner has taken over")
            raise Interrupted(str(error)) from error
        with self._lock:
            if self._lease is lease:
                self._renewed = asked

    def drop(self, reason: str) -> None:
        """Forget the lease without giving it back, for what it protected must not go on."""
        with self._lock:
            lease, self._lease = self._lease, None
        if lease is not None:
            log.warning("lease.lost", extra=fields(epoch=lease.epoch, reason=reason))

    def stop(self) -> None:
        """Stop renewing and give the lease back, so that the next learner need not wait for it to run out."""
        self._task.stop(self._ttl_s)
        with self._lock:
            lease, self._lease = self._lease, None
        if lease is None:
            return
        try:
            lease.release()
        except (Fenced, StoreUnavailable) as error:
            log.info("lease.not_released", extra=fields(reason=str(error)))

    def _renew_or_drop(self) -> None:
        try:
            if self._lease is not None:
                self.renew()
        except Interrupted:
            return
        except StoreUnavailable as error:
            if not self.held:
                self.drop(f"not renewed in {self._ttl_s:g} s: {error}")
