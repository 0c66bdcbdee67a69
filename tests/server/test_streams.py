"""Streams of examples: one batch is read ahead of the one being stored, and nothing else about them changes by it."""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import grpc
import pytest

from accrete.v1 import teaching_pb2
from accrete_server.images import ImageReader
from accrete_server.teach.prefetch import prefetch
from accrete_storage.config import TeachingConfig
from accrete_storage.examples.pending import PendingLog
from benchmarks.waiting import until
from tests.server.calls import TestCall
from tests.server.world import Running, World, example, failure, ids_of


def batch(*seeds: int, label: str = "cat") -> teaching_pb2.AddExamplesRequest:
    return teaching_pb2.AddExamplesRequest(examples=[example(label, seed=seed) for seed in seeds])


def reading() -> int:
    """Threads that read ahead."""
    return sum(thread.name == "prefetch" for thread in threading.enumerate())


class Talk:
    """A stream whose batches are sent one by one."""

    def __init__(self, running: Running) -> None:
        self._requests: queue.SimpleQueue[teaching_pb2.AddExamplesRequest | None] = queue.SimpleQueue()
        self.call: Any = running.teaching.StreamExamples(iter(self._requests.get, None), timeout=300)

    def send(self, *batches: teaching_pb2.AddExamplesRequest | None) -> None:
        """None: nothing more comes."""
        for one in batches:
            self._requests.put(one)


def test_one_item_is_made_ready_ahead_and_no_more():
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in itertools.count():
            taken.append(number)
            yield number

    with prefetch(items(), lambda number: -number) as results:
        for number in range(3):
            assert next(results) == -number
            until(partial(lambda number: len(taken) == number + 2, number))
            time.sleep(0.05)
            assert len(taken) == number + 2
    until(lambda: not reading())


def test_what_goes_wrong_comes_in_its_place():
    with prefetch(iter([1, 2, 0, 3]), lambda number: 6 // number) as results:
        assert [next(results), next(results)] == [6, 3]
        with pytest.raises(ZeroDivisionError):
            next(results)
    until(lambda: not reading())


def test_an_answer_does_not_wait_for_the_next_batch(world: World):
    talk = Talk(world.server())
    for seed in range(3):
        talk.send(batch(seed))
        (answered,) = next(talk.call).results
        assert answered.id in world.store.pending.locate([answered.id])
    talk.send(None)
    assert list(talk.call) == []


@pytest.mark.parametrize("at_once", [1, 2])
def test_a_batch_that_waits_for_the_one_before_it_holds_no_turn(world: World, at_once: int):
    running = world.server(teaching_concurrency=at_once)
    batches = [batch(number) for number in range(20)]
    answers = list(running.teaching.StreamExamples(iter(batches), timeout=300))
    assert [ids_of(answer.results) for answer in answers] == [ids_of(running.add(*one.examples)) for one in batches]
    assert running.server.teach_admission.working == 0


def test_a_stream_stands_in_line_once(world: World, monkeypatch: pytest.MonkeyPatch):
    opened, append = threading.Event(), PendingLog.store
    monkeypatch.setattr(PendingLog, "store", lambda log, arrivals: append(log, arrivals) if opened.wait(20) else [])
    running = world.server(teaching_concurrency=1)
    teaching = running.server.teach_admission
    talks = [Talk(running) for _ in range(3)]
    for number, talk in enumerate(talks):
        talk.send(*[batch(10 * number + n) for n in range(3)], None)
    until(lambda: teaching.waiting == 2)
    time.sleep(0.1)
    assert (teaching.working, teaching.waiting) == (1, 2)
    opened.set()
    assert [len(list(talk.call)) for talk in talks] == [3, 3, 3]


def test_nothing_is_decoded_without_a_turn(world: World, monkeypatch: pytest.MonkeyPatch):
    running = world.server(teaching_concurrency=1)
    teaching, decoded = running.server.teach_admission, itertools.count()
    read = ImageReader.read
    monkeypatch.setattr(ImageReader, "read", lambda *given: (next(decoded), read(*given))[1])
    teaching.enter(TestCall())
    talk = Talk(running)
    talk.send(batch(1), batch(2), None)
    until(lambda: teaching.waiting == 1)
    time.sleep(0.1)
    assert next(decoded) == 0
    teaching.leave(0.0)
    assert [len(answer.results) for answer in talk.call] == [1, 1]
    assert next(decoded) == 3


def test_a_batch_behind_one_that_failed_is_not_stored(world: World):
    running = world.server(teaching=TeachingConfig(examples_per_minute=3))
    talk = Talk(running)
    talk.send(batch(1, 2), batch(3, 4), batch(5), None)
    assert len(next(talk.call).results) == 2
    failed = failure(lambda: next(talk.call))
    assert failed.code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "examples_per_minute is 3" in failed.details
    until(lambda: not reading())
    assert world.store.pending.total().examples == 2, "the third would have fitted"


def test_a_batch_that_cannot_be_read_fails_after_the_answers_to_those_before_it(world: World):
    running = world.server()
    talk = Talk(running)
    talk.send(batch(1), batch(2), teaching_pb2.AddExamplesRequest(), batch(3), None)
    assert [len(next(talk.call).results) for _ in range(2)] == [1, 1]
    assert failure(lambda: next(talk.call)).code == grpc.StatusCode.INVALID_ARGUMENT
    until(lambda: not reading())
    assert world.store.pending.total().examples == 2


@pytest.mark.own_store
def test_a_store_that_goes_away_ends_the_stream_and_acknowledges_nothing(world: World):
    running = world.server()
    talk = Talk(running)
    talk.send(batch(1))
    assert len(next(talk.call).results) == 1
    world.kill_store()
    talk.send(batch(2), batch(3))
    assert failure(lambda: next(talk.call)).code == grpc.StatusCode.UNAVAILABLE
    world.start_store()
    assert world.store.pending.total().examples == 1


def test_nothing_is_left_of_a_stream_whose_caller_hangs_up_whatever_it_was_at(world: World):
    running = world.server()
    for sent in ((), (batch(1),), (batch(1), batch(2), batch(3))):
        talk = Talk(running)
        talk.send(*sent)
        until(lambda: reading() == 1)
        talk.call.cancel()
        until(lambda: not reading() and running.server.stream_limit.open == 0)
        assert (running.server.teach_admission.working, running.server.teach_admission.waiting) == (0, 0)


def test_a_stream_whose_caller_hangs_up_or_is_out_of_time_is_no_error_of_ours(world: World):
    running = world.server()
    for _ in range(5):
        late = running.teaching.StreamExamples(iter(queue.SimpleQueue[Any]().get, None), timeout=0.05)
        assert failure(partial(next, late)).code == grpc.StatusCode.DEADLINE_EXCEEDED
        talk = Talk(running)
        talk.send(batch(1))
        assert len(next(talk.call).results) == 1
        talk.call.cancel()

    def ended() -> dict[str, float]:
        registry = running.server.metrics.registry
        samples = (sample for family in registry.collect() for sample in family.samples)
        return {one.labels["code"]: one.value for one in samples if one.name == "accrete_requests_total"}

    until(lambda: sum(ended().values()) == 10)
    assert ended().keys() <= {"CANCELLED", "OK"}, "gRPC may take the end of the call for that of the stream"


def test_a_server_that_stops_ends_a_stream_that_rests(world: World):
    running = world.server(grace_s=0.1)
    talk = Talk(running)
    talk.send(batch(1))
    assert len(next(talk.call).results) == 1
    running.server.stop()
    assert failure(lambda: next(talk.call)).code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
    until(lambda: not reading())
    world.forget(running)
