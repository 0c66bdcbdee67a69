"""How far the step is that runs, and how long its stage will still take, from the learner's events."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from accrete_storage.events import StoredEvent


@dataclass(frozen=True, kw_only=True)
class Reached:
    """The last progress of a step."""

    body: Mapping[str, Any]
    """Of the event."""
    left_ms: int
    """What the stage will still take; 0: not known."""


class StepProgress:
    """Follow the learner's events; of use from several threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Know of no step yet.

        Args:
            clock: seconds that grow.
        """
        self._clock = clock
        self._lock = threading.Lock()
        self._last: StoredEvent | None = None
        """The last event of progress, until the step ends."""
        self._heard_s = 0.0
        self._began: tuple[int, int] | None = None
        """When the stage began, in milliseconds of the store's clock, and what of it was done; None: not seen."""
        self._edge_ms: int | None = None
        """When the last event came, whatever it was: the next stage begins there."""

    def note(self, events: Iterable[StoredEvent]) -> None:
        """Take notice of events, oldest first."""
        with self._lock:
            for event in events:
                if event.kind == "progress":
                    self._note_progress(event)
                elif event.kind in ("phase", "committed", "rejected", "failed", "discarded"):
                    self._last = None
                self._edge_ms = event.time_ms

    def reached(self) -> Reached | None:
        """Return how far the step is, or None where none runs that is known of."""
        with self._lock:
            if self._last is None:
                return None
            return Reached(body=self._last.body, left_ms=self._left_ms(self._last))

    def _note_progress(self, event: StoredEvent) -> None:
        last = self._last
        if last is None or last.body["stage"] != event.body["stage"] or event.body["done"] < last.body["done"]:
            self._began = (event.time_ms, event.body["done"]) if self._edge_ms is None else (self._edge_ms, 0)
        self._last, self._heard_s = event, self._clock()

    def _left_ms(self, last: StoredEvent) -> int:
        if self._began is None:
            return 0
        began_ms, before = self._began
        done, total = int(last.body["done"]), int(last.body["total"])
        if done <= before:
            return 0
        whole_ms = (last.time_ms - began_ms) / (done - before) * (total - done)
        return max(0, round(whole_ms - (self._clock() - self._heard_s) * 1000))
