"""The learner's events for many watchers, read from the store once.

The latest events are kept in memory, and each watcher reads on from the last event that it has seen. One that is behind
what is kept reads the store instead, so that a slow watcher costs nothing but its own reads, and nothing piles up for
it.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from accrete_server.errors import InvalidInput, ShuttingDown
from accrete_storage.events import StoredEvent

KEPT = 1000
"""Events kept in memory: minutes of a busy learner; older ones are read from the store."""

_PAGE = 100  # events in one read of the store
_CHECK_S = 1.0  # how often a waiting watcher checks whether its caller is gone


_ID = re.compile(r"(\d{1,19})(?:-(\d{1,19}))?")


def id_key(event_id: str) -> tuple[int, int]:
    """Return what orders event ids.

    Raises:
        InvalidInput: the text is not the id of an event.
    """
    match = _ID.fullmatch(event_id)
    if match is None:
        raise InvalidInput(f"after: {event_id!r} is not the id of an event")
    return int(match[1]), int(match[2] or 0)


class EventHub:
    """The latest events, and the watchers that wait for the next."""

    def __init__(self, kept: int = KEPT) -> None:
        """Keep the latest `kept` events in memory, none before `begin`."""
        self._events: deque[StoredEvent] = deque(maxlen=kept)
        self._kept = kept
        self._complete_after: str | None = None  # every event after this id is kept
        self._changed = threading.Condition()
        self._closed = False

    def begin(self, last_id: str) -> None:
        """Set where the events that will be published begin. Events before may have been missed."""
        with self._changed:
            self._events.clear()
            self._complete_after = last_id

    def publish(self, events: Iterable[StoredEvent]) -> None:
        """Add events, oldest first, and wake the watchers."""
        with self._changed:
            for event in events:
                if len(self._events) == self._kept:
                    self._complete_after = self._events[0].id
                self._events.append(event)
            self._changed.notify_all()

    def after(self, event_id: str, timeout_s: float) -> list[StoredEvent] | None:
        """Return the events after an id, waiting for the first at most `timeout_s` seconds.

        None means that not all of them are kept here, and are to be read from the store.
        """
        with self._changed:
            if not self._is_kept(event_id):
                return None
            if not self._later(event_id) and not self._closed:
                self._changed.wait(timeout_s)
            return self._later(event_id) if self._is_kept(event_id) else None

    def wait(self, seconds: float) -> None:
        """Wait until something is published, at most `seconds`."""
        with self._changed:
            if not self._closed:
                self._changed.wait(seconds)

    def wake(self) -> None:
        """End every wait, so that each waiting call checks its own state."""
        with self._changed:
            self._changed.notify_all()

    @property
    def closed(self) -> bool:
        """Whether the server is stopping."""
        return self._closed

    def close(self) -> None:
        """End every watch."""
        self._closed = True
        self.wake()

    def _is_kept(self, event_id: str) -> bool:
        return self._complete_after is not None and id_key(event_id) >= id_key(self._complete_after)

    def _later(self, event_id: str) -> list[StoredEvent]:
        key = id_key(event_id)
        return [event for event in self._events if id_key(event.id) > key]


def watch(
    hub: EventHub, read: Callable[[str, int], list[StoredEvent]], after: str, is_active: Callable[[], bool]
) -> Iterator[StoredEvent]:
    """Yield every event after the id `after`, in order, each once, until the caller is gone.

    Args:
        hub: where the latest events are.
        read: reads the store, given an id and a number of events; what it raises ends the watch.
        after: an event's id.
        is_active: returns whether the caller is still there.

    Raises:
        ShuttingDown: the server stops.
    """
    while is_active():
        if hub.closed:
            raise ShuttingDown("the server is shutting down; watch again with the last event's id as `after`")
        events = hub.after(after, _CHECK_S)
        if events is None:
            events = read(after, _PAGE)
            if not events:
                hub.wait(_CHECK_S)
        for event in events:
            after = event.id
            yield event
