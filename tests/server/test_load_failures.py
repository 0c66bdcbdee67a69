"""When a version that could not be loaded is tried again."""

from __future__ import annotations

import pytest

from accrete_server.versions.load_failures import LoadFailures


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("accrete_server.versions.load_failures.time.monotonic", lambda: now[0])
    return now


def test_the_time_between_tries_doubles_up_to_a_limit(clock):
    failures = LoadFailures()
    waits = []
    for attempt in range(1, 10):
        assert failures.record(2, "d", "damaged") == attempt
        started = clock[0]
        while failures.is_waiting(2, "d"):
            clock[0] += 1
        waits.append(clock[0] - started)
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300, 300]


def test_a_version_published_anew_is_tried_at_once(clock):
    failures = LoadFailures()
    failures.record(2, "d", "damaged")
    assert failures.is_waiting(2, "d")
    assert not failures.is_waiting(2, "e")
    assert not failures.is_waiting(3, "d")


def test_what_failed_is_told_until_it_is_forgotten(clock):
    failures = LoadFailures()
    failures.record(2, "d", "damaged")
    assert (failures.reason(2), failures.reason(3)) == ("damaged", None)
    failures.forget(2)
    assert failures.reason(2) is None
    assert not failures.is_waiting(2, "d")
