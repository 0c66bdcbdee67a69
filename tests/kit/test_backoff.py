"""Waits double up to a bound."""

import time

from accrete_kit.backoff import Backoff, wait_after


def test_each_failure_doubles_the_wait_up_to_the_longest() -> None:
    assert [wait_after(failures, first_s=5, last_s=30) for failures in (1, 2, 3, 4)] == [5, 10, 20, 30]
    assert wait_after(4, first_s=5) == 40
    assert wait_after(100_000, first_s=5, last_s=30) == 30


def test_it_is_due_before_a_failure_and_after_the_wait() -> None:
    backoff = Backoff(first_s=0.02, last_s=60)
    assert backoff.due()
    assert backoff.failed() == 0.02
    assert not backoff.due()
    time.sleep(0.03)
    assert backoff.due()


def test_a_reset_forgets_the_failures() -> None:
    backoff = Backoff(first_s=10, last_s=60)
    assert [backoff.failed() for _ in range(4)] == [10, 20, 40, 60]
    backoff.reset()
    assert backoff.due()
    assert backoff.failures == 0
    assert backoff.failed() == 10
