"""Turns of calls that are computed together, and the line that they are taken from."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from accrete_server.errors import LimitExceeded
from accrete_server.predict.batcher import Request
from accrete_server.predict.line import TURN_IMAGES, Line
from tests.server.calls import TestCall, learned_line

IMAGE = np.zeros((1, 4, 4, 3), np.uint8)


def _request(images: int = 1, call: TestCall | None = None, timeout_s: float = 0.0) -> Request:
    return Request(lambda: IMAGE, call or TestCall(), images, timeout_s)


def _enter(line: Line, *images: int) -> list[Request]:
    requests = [_request(count) for count in images]
    for request in requests:
        line.enter(request)
    return requests


def test_a_turn_takes_those_who_wait_in_the_order_of_arrival_up_to_its_size():
    line = learned_line()
    requests = _enter(line, *[1] * (TURN_IMAGES + 3))
    assert line.take() == requests[:TURN_IMAGES]
    assert (line.working, line.waiting) == (1, 3)
    assert line.take() == [], "the only turn is taken"
    line.leave(requests[:TURN_IMAGES], 0.001)
    assert line.take() == requests[TURN_IMAGES:]
    line.leave(requests[TURN_IMAGES:], 0.001)
    assert (line.working, line.waiting) == (0, 0)
    assert line.take() == []


def test_a_turn_takes_its_share_of_the_line_alone():
    line = learned_line(at_once=2)
    requests = _enter(line, *[1] * 5)
    assert line.take() == requests[:3]
    assert line.take() == requests[3:4]


def test_images_are_counted_and_a_call_of_many_has_a_turn_of_its_own():
    line = learned_line()
    requests = _enter(line, 1, 64, 5, 4)
    for wanted in ([requests[0]], [requests[1]], [requests[2]], [requests[3]]):
        assert line.take() == wanted
        line.leave(wanted, 0.001)


@pytest.mark.parametrize(("image_s", "calls"), [(0.000_5, 8), (0.003_9, 5), (0.1, 1)])
def test_a_turn_is_as_long_as_images_are_dear(image_s, calls):
    line = learned_line(image_s=image_s)
    _enter(line, *[1] * 12)
    assert len(line.take()) == calls


def test_a_turn_is_for_one_call_until_it_is_known_how_long_an_image_takes():
    line = Line(limit="queue", at_once=1, queue=64)
    requests = _enter(line, 1, 1)
    assert line.take() == requests[:1]


def test_a_busy_machine_makes_no_turn_shorter():
    line = learned_line()
    for number in range(300):
        turn = _enter(line, 1)
        line.take()
        line.leave(turn, 0.002 if number % 4 else 0.02)
    _enter(line, *[1] * 12)
    assert len(line.take()) >= 6


def test_beyond_the_line_a_call_is_refused_and_told_when_to_retry():
    line = learned_line(queue=1)
    line.enter(_request())
    line.take()
    assert line.room == 1
    line.enter(_request())
    assert line.room == 0
    with pytest.raises(LimitExceeded, match="queue is 1; retry in 0.01 s"):
        line.enter(_request())


def test_before_any_turn_is_taken_there_is_room_for_turns_and_line_alone():
    line = learned_line(at_once=2, queue=3)
    _enter(line, *[1] * 5)
    with pytest.raises(LimitExceeded):
        line.enter(_request())


def test_a_call_whose_turn_would_come_after_its_deadline_is_refused():
    line = learned_line()
    for _ in range(200):
        turn = _enter(line, 1)
        line.take()
        line.leave(turn, 10.0)
    line.enter(_request(call=TestCall(timeout_s=1)))  # it need not wait, and may well be shorter than those before
    line.take()
    with pytest.raises(LimitExceeded):
        line.enter(_request(call=TestCall(timeout_s=15)))
    with pytest.raises(LimitExceeded):
        line.enter(_request(timeout_s=15))
    line.enter(_request(timeout_s=300))


def test_a_request_is_dropped_once_and_only_from_the_line():
    line = learned_line()
    first, second = _enter(line, 1, 1)
    assert line.drop(first)
    assert not line.drop(first)
    assert line.take() == [second]
    assert not line.drop(second)


def test_a_request_whose_own_timeout_has_passed_is_late():
    line = learned_line()
    late, patient = _request(timeout_s=1e-9), _request(timeout_s=300)
    for request in (late, patient):
        line.enter(request)
    assert line.late() == [late]


def test_no_request_is_lost_or_taken_twice_under_contention():
    line, taken, dropped = learned_line(at_once=2, queue=10_000), list[Request](), list[Request]()
    requests = [_request() for _ in range(400)]
    coming = threading.Event()

    def enter(part: list[Request]) -> None:
        for request in part:
            line.enter(request)

    def drop(part: list[Request]) -> None:
        dropped.extend(request for request in part if line.drop(request))

    def work() -> None:
        while turn := line.take() or not coming.is_set():
            if isinstance(turn, list):
                taken.extend(turn)
                line.leave(turn, 0.001)

    workers = [threading.Thread(target=work) for _ in range(2)]
    others = [threading.Thread(target=enter, args=(requests[number::2],)) for number in range(2)]
    others.append(threading.Thread(target=drop, args=(requests[::7],)))
    for thread in (*workers, *others):
        thread.start()
    for thread in others:
        thread.join()
    coming.set()
    for thread in workers:
        thread.join()
    assert sorted(map(id, taken + dropped)) == sorted(map(id, requests))
    assert (line.working, line.waiting) == (0, 0)
