"""Late answers are counted, and training is asked to yield while there are too many."""

from __future__ import annotations

import time

import pytest

from accrete_server.metrics.slo_monitor import SloMonitor
from accrete_server.store_connection import StoreConnection
from benchmarks.waiting import until


def monitor_of(world) -> SloMonitor:
    return SloMonitor(0.010, StoreConnection(lambda: world.store))


def answer(monitor: SloMonitor, in_time: int, too_late: int) -> None:
    for seconds in [0.010] * in_time + [0.011] * too_late:
        monitor.observe(seconds)


def test_more_than_one_late_in_a_hundred_misses_the_target(world):
    monitor = monitor_of(world)
    answer(monitor, 298, 3)
    assert not monitor.is_missed()
    answer(monitor, 0, 1)
    assert monitor.is_missed()


def test_one_late_alone_never_misses_the_target(world):
    monitor = monitor_of(world)
    answer(monitor, 0, 1)
    assert not monitor.is_missed()
    answer(monitor, 0, 1)
    assert monitor.is_missed()


def test_what_was_late_a_while_ago_counts_no_more(world):
    monitor = monitor_of(world)
    answer(monitor, 0, 5)
    assert [monitor.is_missed() for _ in range(6)] == [True, True, True, True, False, False]


def test_a_server_whose_answers_are_late_asks_until_they_are_not(world):
    world.publish(1)
    hasty = world.server(p99_target_ms=0.001)
    assert not world.store.control.asked_to_yield()

    def asked():
        hasty.predict(1, 2)
        return world.store.control.asked_to_yield()

    until(asked)
    until(lambda: not world.store.control.asked_to_yield())


def test_without_a_target_nothing_is_asked(world):
    world.publish(1)
    running = world.server()
    ends = time.monotonic() + 1.0
    while time.monotonic() < ends:
        running.predict(1, 2)
        assert not world.store.control.asked_to_yield()


@pytest.mark.own_store
def test_nothing_is_asked_of_a_store_that_is_gone_and_the_server_stops_in_order(world):
    world.publish(1)
    running = world.server(p99_target_ms=0.001)
    world.kill_store()
    for _ in range(20):
        running.predict(1, 2)
    world.start_store()
    running.predict(1, 2)
    world.stop(running)
