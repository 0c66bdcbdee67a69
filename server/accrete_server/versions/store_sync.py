"""The background thread that keeps version, masks, prototypes and events in step with the store."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from accrete_kit.failpoints import around
from accrete_kit.periodic import PeriodicTask
from accrete_server.event_hub import EventHub
from accrete_server.metrics.collectors import UNKNOWN_PHASE, Metrics
from accrete_server.store_connection import StoreConnection
from accrete_server.versions.swapping import Swapper
from accrete_storage.errors import StorageError, StoreUnavailable
from accrete_storage.events import StoredEvent
from accrete_storage.store import Store

SYNC_S = 1.0
"""Seconds between two reads of the store when no event comes."""

_READ_S = 0.2  # longest blocking read: what `stop` waits for at most, and well below the store's timeout

_log = logging.getLogger(__name__)


class StoreSync:
    """Read the store each second and on each event, and have the swapper act on it.

    An outage of the store changes nothing about what is served. No error ends the thread.
    """

    def __init__(
        self,
        connection: StoreConnection,
        swapper: Swapper,
        heard: Callable[[list[StoredEvent]], None],
        hub: EventHub,
        metrics: Metrics,
    ) -> None:
        """Do nothing yet.

        Args:
            connection: to the store.
            swapper: what follows the store's versions.
            heard: called with all events as they come, before watchers have them.
            hub: where watchers wait for them.
            metrics: gauges of the store.
        """
        self._connection = connection
        self._swapper = swapper
        self._heard = heard
        self._hub = hub
        self._metrics = metrics
        self._last_event: str | None = None  # id of the last event that was passed on
        self._task = PeriodicTask("store-sync", self._sync_and_wait, every_s=0)
        self._up = True

    def start(self) -> None:
        """Start the thread. Call `sync` before, so that the first request finds a version."""
        self._task.start()

    def stop(self) -> None:
        """Stop the thread, and return when it has ended."""
        self._task.stop()

    def sync(self) -> None:
        """Read the store once and serve what it says, or without the store what was served last."""
        try:
            store = self._connection.connect()
            self._begin(store)
            self._swapper.follow(store)
            self._read_gauges(store)
            self._note_store(up=True)
        except StorageError as error:
            self._note_store(up=False, reason=str(error))
            self._swapper.serve_last_served()
        self._swapper.tidy()

    def _sync_and_wait(self) -> None:
        try:
            self.sync()
            self._await_change()
        except StoreUnavailable as error:
            self._note_store(up=False, reason=str(error))
            self._task.wait(SYNC_S)
        except Exception:  # whatever it is, the next try is a second away and the old version serves on
            _log.exception("store_sync.failed")
            self._task.wait(SYNC_S)

    def _begin(self, store: Store) -> None:
        if self._last_event is None:
            self._last_event = store.events.last_id()
            self._hub.begin(self._last_event)

    def _await_change(self) -> None:
        """Pass events on until one may change what is served (progress never does), at most for a second."""
        if not self._up:
            self._task.wait(SYNC_S)
            return
        until = time.monotonic() + SYNC_S
        while not self._task.stopping and (left := until - time.monotonic()) > 0:
            if any(event.kind != "progress" for event in self._pass_on(min(left, _READ_S))):
                return

    def _pass_on(self, wait_s: float) -> list[StoredEvent]:
        """Return the events that came within `wait_s` seconds, once they are given to the watchers."""
        store = self._connection.store()
        after = self._last_event or store.events.last_id()
        events = store.events.read(after, max(1, int(wait_s * 1000)))
        if events:
            self._last_event = events[-1].id
            self._heard(events)
            with around("announce"):
                self._hub.publish(events)
        return events

    def _read_gauges(self, store: Store) -> None:
        total = store.pending.total()
        model = self._metrics.model
        model.pending.set(total.examples)
        model.pending_bytes.set(total.bytes)
        model.oldest_pending(total.oldest_ms)
        self._metrics.requests.phase = store.control.phase()

    def _note_store(self, *, up: bool, reason: str = "") -> None:
        self._metrics.model.store_up.set(up)
        if not up:
            self._metrics.requests.phase = UNKNOWN_PHASE
        if up != self._up:
            self._up = up
            log = _log.info if up else _log.warning
            log("store.back" if up else "store.lost", extra={"reason": reason})
