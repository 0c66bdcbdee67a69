"""A periodic task goes on through what is expected, ends at what is not, and stops when told."""

import queue
import threading
import time

import pytest

from accrete_kit.periodic import PeriodicTask


class Outage(Exception):
    """What the task is to live through."""


def test_it_calls_until_it_is_stopped_and_through_expected_errors() -> None:
    calls: queue.Queue[int] = queue.Queue()

    def work() -> None:
        calls.put(threading.get_ident())
        raise Outage

    task = PeriodicTask("busy", work, every_s=0.001, expected=Outage)
    task.start()
    threads = {calls.get(timeout=5) for _ in range(3)}
    task.stop()
    assert len(threads) == 1
    assert threading.get_ident() not in threads
    done = calls.qsize()
    time.sleep(0.02)
    assert calls.qsize() == done


def test_another_error_ends_it_and_is_told(caplog: pytest.LogCaptureFixture) -> None:
    told: queue.Queue[Exception] = queue.Queue()
    calls: list[int] = []

    def work() -> None:
        calls.append(1)
        raise KeyError("lost")

    task = PeriodicTask("broken", work, every_s=0, expected=Outage, on_error=told.put)
    task.start()
    assert isinstance(told.get(timeout=5), KeyError)
    task.stop()
    assert len(calls) == 1
    assert [record.message for record in caplog.records] == ["task.failed"]


def test_stopping_wakes_work_that_waits() -> None:
    began = threading.Event()

    def work() -> None:
        began.set()
        assert task.wait(300)

    task = PeriodicTask("sleeper", work, every_s=0)
    task.start()
    assert began.wait(5)
    before = time.monotonic()
    task.stop()
    assert time.monotonic() - before < 5
    assert task.stopping


def test_it_prepares_its_thread_once_before_the_first_call() -> None:
    seen: queue.Queue[str] = queue.Queue()
    task = PeriodicTask(
        "prepared", lambda: seen.put("work"), every_s=0.001, before=lambda: seen.put(threading.current_thread().name)
    )
    task.start()
    assert [seen.get(timeout=5) for _ in range(3)] == ["prepared", "work", "work"]
    task.stop()


def test_a_task_that_never_started_stops_at_once() -> None:
    PeriodicTask("idle", lambda: None, every_s=60).stop()
