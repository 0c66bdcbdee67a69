"""The background thread that keeps this server in step with the store: active version, masks, prototypes, events."""

from __future__ import annotations

import logging
import time

from accrete_kit.failpoints import around
from accrete_kit.periodic import PeriodicTask
from accrete_server.metrics.collectors import UNKNOWN_PHASE, Metrics
from accrete_server.store_connection import StoreLink
from accrete_server.versions.swapping import Swapper
from accrete_server.watching import Hub
from accrete_storage.errors import StorageError, StoreUnavailable
from accrete_storage.events import StoredEvent
from accrete_storage.store import Store

TICK_S = 1.0
"""Seconds between looks when no event comes."""

_READ_S = 0.2  # longest blocking read: what `stop` waits for at most, and well below the store's timeout

_log = logging.getLogger(__name__)


class Follower:
    """Reads the store each second and on each event, and has the swapper act on it.

    An outage of the store changes nothing about what is served. No error ends the thread.
    """

    def __init__(self, link: StoreLink, swapper: Swapper, hub: Hub, metrics: Metrics) -> None:
        self._link = link
        self._swapper = swapper
        self._hub = hub
        self._metrics = metrics
        self._place: str | None = None  # id of the last event seen
        self._task = PeriodicTask("follower", self._follow, every_s=0)
        self._up = True

    def start(self) -> None:
        """Starts following. Call `look` before, so that the first request finds a version."""
        self._task.start()

    def stop(self) -> None:
        """Stops following; returns when the thread has ended."""
        self._task.stop()

    def look(self) -> None:
        """Reads the store once and follows it; without the store, serves what was served last."""
        try:
            store = self._link.reach()
            self._begin(store)
            self._swapper.follow(store)
            self._read_gauges(store)
            self._note_store(up=True)
        except StorageError as problem:
            self._note_store(up=False, reason=str(problem))
            self._swapper.serve_remembered()
        self._swapper.tidy()

    def _follow(self) -> None:
        try:
            self.look()
            self._await_change()
        except StoreUnavailable as problem:
            self._note_store(up=False, reason=str(problem))
            self._task.wait(TICK_S)
        except Exception:  # whatever it is, the next look is a second away and the old version serves on
            _log.exception("follower_failed")
            self._task.wait(TICK_S)

    def _begin(self, store: Store) -> None:
        if self._place is None:
            self._place = store.events.last_id()
            self._hub.begin(self._place)

    def _await_change(self) -> None:
        """Passes events on until one may change what is served, at most a tick; a step's progress never does."""
        if not self._up:
            self._task.wait(TICK_S)
            return
        until = time.monotonic() + TICK_S
        while not self._task.stopping and (left := until - time.monotonic()) > 0:
            if any(event.kind != "progress" for event in self._pass_on(min(left, _READ_S))):
                return

    def _pass_on(self, wait_s: float) -> list[StoredEvent]:
        """The next events, also given to the watchers; none when none came within `wait_s`."""
        store = self._link.get()
        place = self._place or store.events.last_id()
        events = store.events.read(place, max(1, int(wait_s * 1000)))
        if events:
            self._place = events[-1].id
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
            log("store_back" if up else "store_lost", extra={"reason": reason})
