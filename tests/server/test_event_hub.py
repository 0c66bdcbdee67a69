"""Events for many watchers: in order, each once, none lost."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator

import pytest

from accrete_server.errors import InvalidInput, LimitExceeded, ShuttingDown
from accrete_server.event_hub import EventHub, id_key, watch
from accrete_server.teach.stream_limit import StreamLimit
from accrete_storage.events import StoredEvent


def _event(number: int) -> StoredEvent:
    return StoredEvent(id=f"{number}-0", time_ms=number, kind="provisional", body={"label": "x", "examples": number})


class _Log:
    """Events as the store keeps them."""

    def __init__(self) -> None:
        self.events: list[StoredEvent] = []
        self.reads = 0

    def add(self, count: int) -> list[StoredEvent]:
        new = [_event(len(self.events) + index + 1) for index in range(count)]
        self.events += new
        return new

    def read(self, after: str, count: int) -> list[StoredEvent]:
        self.reads += 1
        return [event for event in self.events if id_key(event.id) > id_key(after)][:count]


def _take(events: Iterator[StoredEvent], count: int) -> list[int]:
    return [event.time_ms for event in itertools.islice(events, count)]


def test_a_watcher_gets_what_is_published_after_its_last_event_without_reading_the_store():
    hub, log = EventHub(), _Log()
    hub.begin("0")
    hub.publish(log.add(5))
    assert _take(watch(hub, log.read, "2-0", lambda: True), 3) == [3, 4, 5]
    assert log.reads == 0


def test_a_watcher_from_before_the_kept_events_reads_the_store_first():
    hub, log = EventHub(), _Log()
    log.add(250)
    hub.begin("250-0")
    hub.publish(log.add(5))
    assert _take(watch(hub, log.read, "0", lambda: True), 255) == list(range(1, 256))


def test_a_slow_watcher_loses_nothing():
    hub, log = EventHub(kept=10), _Log()
    hub.begin("0")
    hub.publish(log.add(3))
    events = watch(hub, log.read, "0", lambda: True)
    assert _take(events, 3) == [1, 2, 3]
    hub.publish(log.add(50))
    assert _take(events, 50) == list(range(4, 54))


def test_events_come_while_it_waits():
    hub, log = EventHub(), _Log()
    hub.begin("0")
    threading.Timer(0.05, lambda: hub.publish(log.add(1))).start()
    assert _take(watch(hub, log.read, "0", lambda: True), 1) == [1]


def test_before_the_hub_has_begun_the_store_is_read():
    hub, log = EventHub(), _Log()
    log.add(2)
    assert _take(watch(hub, log.read, "0", lambda: True), 2) == [1, 2]


def test_it_ends_with_its_caller():
    hub, log = EventHub(), _Log()
    hub.begin("0")
    assert list(watch(hub, log.read, "0", lambda: False)) == []


def test_it_ends_with_the_server_and_says_how_to_go_on():
    hub, log = EventHub(), _Log()
    hub.begin("0")
    threading.Timer(0.05, hub.close).start()
    with pytest.raises(ShuttingDown, match="`after`"):
        list(watch(hub, log.read, "0", lambda: True))


@pytest.mark.parametrize("text", ["", "x", "1-", "-1", "1-2-3", "$", "9" * 30])
def test_a_text_that_is_no_event_id_is_refused(text):
    with pytest.raises(InvalidInput):
        id_key(text)


def test_ids_are_ordered_as_numbers():
    assert id_key("9-1") < id_key("10-0") < id_key("10-2") < id_key("10-10")


def test_open_calls_are_bounded_and_counted_out():
    limit = StreamLimit(1)
    with limit, pytest.raises(LimitExceeded, match="max_watchers is 1"), limit:
        pass
    assert limit.open == 0
