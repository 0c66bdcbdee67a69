"""Learner events for many watchers, read from the store once.

The latest events are kept in memory; each watcher has a place of its own in them. One that is behind what is kept reads
the store instead, so that a slow watcher costs nothing but its own reads, and nothing piles up for it.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from accrete_server.errors import InvalidInput, LimitExceeded, ShuttingDown
from accrete_storage.events import StoredEvent

KEPT = 1000
"""Events kept in memory: minutes of a busy learner; older ones are read from the store."""

_PAGE = 100  # events in one read of the store
_LOOK_S = 1.0  # how often a waiting watcher looks whether its caller is gone


_ID = re.compile(r"(\d{1,19})(?:-(\d{1,19}))?")


def place_key(event_id: str) -> tuple[int, int]:
    """What orders event ids. Raises InvalidInput for a text that is none."""
    match = _ID.fullmatch(event_id)
    if match is None:
        raise InvalidInput(f"after: {event_id!r} is not the id of an event")
    return int(match[1]), int(match[2] or 0)


class Hub:
    """The latest events, and the watchers that wait for the next."""

    def __init__(self) -> None:
        self._events: deque[StoredEvent] = deque(maxlen=KEPT)
        self._complete_after: str | None = None  # every event after this id is kept
        self._changed = threading.Condition()
        self._closed = False

    def begin(self, last_id: str) -> None:
        """Sets where the events that will be published begin. Events before may have been missed."""
        with self._changed:
            self._events.clear()
            self._complete_after = last_id

    def publish(self, events: Iterable[StoredEvent]) -> None:
        """Adds events, oldest first, and wakes the watchers."""
        with self._changed:
            for event in events:
                if len(self._events) == KEPT:
                    self._complete_after = self._events[0].id
                self._events.append(event)
            self._changed.notify_all()

    def after(self, place: str, timeout_s: float) -> list[StoredEvent] | None:
        """Events after the id `place`, waiting for one at most `timeout_s`; None: not all are kept, ask the store."""
        with self._changed:
            if not self._is_kept(place):
                return None
            if not self._later(place) and not self._closed:
                self._changed.wait(timeout_s)
            return self._later(place) if self._is_kept(place) else None

    def rest(self, seconds: float) -> None:
        """Waits until something is published, or `seconds`."""
        with self._changed:
            if not self._closed:
                self._changed.wait(seconds)

    def wake(self) -> None:
        """Ends every wait, so that its call looks at its own state."""
        with self._changed:
            self._changed.notify_all()

    @property
    def closed(self) -> bool:
        """Whether the server is stopping."""
        return self._closed

    def close(self) -> None:
        """Ends every watch."""
        self._closed = True
        self.wake()

    def _is_kept(self, place: str) -> bool:
        return self._complete_after is not None and place_key(place) >= place_key(self._complete_after)

    def _later(self, place: str) -> list[StoredEvent]:
        key = place_key(place)
        return [event for event in self._events if place_key(event.id) > key]


def follow(
    hub: Hub, read: Callable[[str, int], list[StoredEvent]], place: str, is_active: Callable[[], bool]
) -> Iterator[StoredEvent]:
    """Every event after the id `place`, in order, each once, until the caller is gone.

    `read(after, count)` reads the store; what it raises ends the watch. Raises ShuttingDown when the server stops.
    """
    while is_active():
        if hub.closed:
            raise ShuttingDown("the server is shutting down; watch again with the last event's id as `after`")
        events = hub.after(place, _LOOK_S)
        if events is None:
            events = read(place, _PAGE)
            if not events:
                hub.rest(_LOOK_S)
        for event in events:
            place = event.id
            yield event


class Seats:
    """How many long-lived calls may be open: each holds a thread of the server."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0
        self._lock = threading.Lock()

    @property
    def taken(self) -> int:
        """Calls open now."""
        return self._taken

    def __enter__(self) -> None:
        """Raises LimitExceeded when all are taken."""
        with self._lock:
            if self._taken >= self._limit:
                raise LimitExceeded("max_watchers", self._limit, "too many watching and waiting calls are open", 1.0)
            self._taken += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._taken -= 1
