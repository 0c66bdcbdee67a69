"""Turns, the line and its end."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from accrete_server.errors import CallerGone, DeadlinePassed, LimitExceeded
from accrete_server.predict.admission import Admission
from benchmarks.waiting import until
from tests.server.calls import TestCall


def _in_background(work: Callable[[], object]) -> list[object]:
    """Runs `work` on a thread; what it returned or raised comes into the list."""
    outcome: list[object] = []

    def run() -> None:
        try:
            outcome.append(work())
        except Exception as error:
            outcome.append(error)

    threading.Thread(target=run).start()
    return outcome


def test_a_free_place_is_taken_without_waiting_and_given_back():
    admission = Admission(limit="queue", at_once=1, queue=0)
    for _ in range(3):
        admission.enter(TestCall())
        assert admission.working == 1
        admission.leave(0.001)
    assert admission.working == 0


def test_what_can_wait_takes_a_turn_only_when_one_is_free():
    admission = Admission(limit="queue", at_once=1, queue=1)
    assert admission.enter_if_free()
    assert not admission.enter_if_free()
    assert (admission.working, admission.waiting) == (1, 0)
    admission.leave(0.001)
    assert admission.enter_if_free()
    admission.leave(0.001)
    assert admission.working == 0


def test_beyond_the_line_a_call_is_refused_at_once_and_told_when_to_retry():
    admission = Admission(limit="queue", at_once=1, queue=1)
    admission.enter(TestCall())
    waiting = _in_background(lambda: admission.enter(TestCall()))
    until(lambda: admission.waiting == 1)
    with pytest.raises(LimitExceeded, match="queue is 1; retry in 0.01 s") as refused:
        admission.enter(TestCall())
    assert refused.value.retry_after_s == pytest.approx(0.01)
    admission.leave(0.0)
    until(lambda: waiting)
    admission.leave(0.0)
    assert (admission.working, admission.waiting) == (0, 0)


def test_a_call_whose_turn_would_come_after_its_deadline_is_refused_rather_than_let_wait():
    admission = Admission(limit="queue", at_once=1, queue=8)
    for _ in range(200):
        admission.enter(TestCall())
        admission.leave(10.0)
    admission.enter(TestCall(timeout_s=1))  # it need not wait, and may well be shorter than those before
    with pytest.raises(LimitExceeded):
        admission.enter(TestCall(timeout_s=15))
    patient = [_in_background(lambda: admission.enter(TestCall(timeout_s=300))) for _ in range(2)]
    until(lambda: admission.waiting == 2)
    for _ in patient:
        admission.leave(0.0)
    until(lambda: all(patient))
    assert all(outcome == [None] for outcome in patient)


def test_a_line_is_full_with_those_who_are_on_their_way_to_it():
    admission = Admission(limit="queue", at_once=1, queue=2)
    assert not admission.is_full(coming=2), "the first of them need not wait"
    admission.enter(TestCall())
    assert not admission.is_full(coming=1)
    assert admission.is_full(coming=2)


def test_turns_come_in_the_order_of_arrival():
    admission = Admission(limit="queue", at_once=1, queue=8)
    admission.enter(TestCall())
    order: list[int] = []

    def work(number: int) -> None:
        admission.enter(TestCall())
        order.append(number)
        admission.leave(0.0)

    for number in range(6):
        threading.Thread(target=work, args=(number,)).start()
        until(lambda: admission.waiting == number + 1)  # noqa: B023
    admission.leave(0.0)
    until(lambda: len(order) == 6)
    assert order == list(range(6))
    until(lambda: admission.working == 0)


def test_a_call_whose_deadline_has_passed_gets_no_turn():
    admission = Admission(limit="queue", at_once=1, queue=1)
    with pytest.raises(DeadlinePassed):
        admission.enter(TestCall(timeout_s=-1))
    assert admission.working == 0


def test_a_deadline_that_passes_in_line_frees_the_place():
    admission = Admission(limit="queue", at_once=1, queue=1)
    admission.enter(TestCall())
    with pytest.raises(DeadlinePassed):
        admission.enter(TestCall(timeout_s=0.05))
    assert admission.waiting == 0
    admission.leave(0.0)
    assert admission.working == 0


def test_a_call_whose_deadline_is_ages_away_waits_for_its_turn():
    admission = Admission(limit="queue", at_once=1, queue=1)
    admission.enter(TestCall())
    outcome = _in_background(lambda: admission.enter(TestCall(timeout_s=9e18)))
    until(lambda: admission.waiting == 1)
    admission.leave(0.0)
    until(lambda: outcome)
    assert outcome == [None]


def test_a_caller_that_hangs_up_leaves_the_line_at_once():
    admission = Admission(limit="queue", at_once=1, queue=1)
    admission.enter(TestCall())
    call = TestCall()
    outcome = _in_background(lambda: admission.enter(call))
    until(lambda: admission.waiting == 1)
    call.hang_up()
    until(lambda: outcome)
    assert isinstance(outcome[0], CallerGone)
    assert admission.waiting == 0


def test_no_turn_is_lost_or_doubled_under_contention():
    admission = Admission(limit="queue", at_once=2, queue=100)
    most, now, done = [0], [0], [0]
    lock = threading.Lock()

    def work(seed: int) -> None:
        for step in range(100):
            call = TestCall(timeout_s=0.0005 if (seed + step) % 3 == 0 else 5)
            try:
                admission.enter(call)
            except DeadlinePassed:
                continue
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
            with lock:
                now[0] -= 1
                done[0] += 1
            admission.leave(0.0001)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] <= 2
    assert done[0] >= 500
    assert (admission.working, admission.waiting) == (0, 0)
