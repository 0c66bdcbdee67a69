"""Teaching: what is stored, what is waited for, what is watched."""

from __future__ import annotations

import itertools
import threading

import grpc
import numpy as np

from accrete.v1 import teaching_pb2, types_pb2
from accrete_storage.examples.ids import content_digest
from benchmarks.waiting import until
from tests.model.artifacts import Recipe
from tests.server.pictures import encode, picture
from tests.server.world import Running, example, failure, ids_of, pixels

STORED = teaching_pb2.ExampleResult.STORED
DUPLICATE = teaching_pb2.ExampleResult.DUPLICATE


def _wait(running: Running, *ids: str, timeout_ms: int = 20_000) -> teaching_pb2.WaitLearnedResponse:
    request = teaching_pb2.WaitLearnedRequest(ids=ids, timeout_ms=timeout_ms)
    return running.teaching.WaitLearned(request, timeout=30)


def test_an_example_is_stored_as_the_model_takes_it(world):
    running = world.server()
    image = picture(40, 30)
    wire = teaching_pb2.Example(
        label="猫", id="a", image=types_pb2.Image(encoded=encode(image, "PNG")), metadata={"from": "zoo"}
    )
    assert [(result.id, result.outcome) for result in running.add(wire)] == [("a", STORED)]
    (entry,) = world.store.pending.read("猫")
    assert (entry.example.id, entry.example.metadata) == ("a", {"from": "zoo"})
    assert (entry.example.tensor.shape, entry.example.tensor.dtype.name) == ((4, 4, 3), "uint8")


def test_an_id_is_made_from_the_content_when_none_is_given(world):
    running = world.server()
    results = running.add(example(seed=1), example(seed=2), example(seed=1), example("dog", seed=1))
    assert [result.outcome for result in results] == [STORED, STORED, DUPLICATE, STORED]
    assert results[0].id == results[2].id == content_digest("cat", pixels(1)).hex()
    assert [result.outcome for result in running.add(example(seed=2))] == [DUPLICATE]


def test_one_picture_in_two_files_is_one_content(world):
    running = world.server()
    image = picture(4, 4)
    files = [types_pb2.Image(encoded=encode(image, kind)) for kind in ("PNG", "BMP")]
    results = running.add(*[teaching_pb2.Example(label="cat", image=file) for file in files])
    assert [result.outcome for result in results] == [STORED, DUPLICATE]


def test_a_stream_is_answered_batch_by_batch_in_order(world):
    running = world.server()
    batches = [teaching_pb2.AddExamplesRequest(examples=[example(seed=n), example(seed=n + 100)]) for n in range(5)]
    answers = list(running.teaching.StreamExamples(iter(batches), timeout=20))
    assert [[result.outcome for result in answer.results] for answer in answers] == [[STORED, STORED]] * 5
    assert world.store.pending.total().examples == 10


def test_waiting_ends_when_this_server_serves_a_version_that_has_them(world):
    running = world.server()
    ids = ids_of(running.add(example(seed=1), example(seed=2), example("dog", seed=3)))
    assert _wait(running, *ids, timeout_ms=50).waiting == ids
    locations = world.store.pending.locate(ids)
    outcome = []
    waiter = threading.Thread(target=lambda: outcome.append(_wait(running, *ids)))
    waiter.start()
    last_cat = max(locations[ids[0]].position, locations[ids[1]].position)
    world.publish(1, Recipe(labels=("cat",)), learned={"cat": last_cat}, consumed={"cat": last_cat})
    running.serves(1)
    assert _wait(running, *ids, timeout_ms=50).waiting == [ids[2]]
    assert not outcome
    position = locations[ids[2]].position
    world.publish(2, learned={"cat": last_cat, "dog": position}, consumed={"dog": position})
    waiter.join(20)
    assert (outcome[0].learned, outcome[0].version, list(outcome[0].waiting)) == (True, 2, [])


def test_an_example_sent_after_the_step_read_its_inputs_is_not_in_it(world):
    running = world.server()
    (first,) = ids_of(running.add(example(seed=1)))
    position = world.store.pending.locate([first])[first].position
    (later,) = ids_of(running.add(example(seed=2)))
    world.publish(1, learned={"cat": position}, consumed={"cat": position})
    running.serves(1)
    answer = _wait(running, first, later, timeout_ms=50)
    assert (answer.learned, list(answer.waiting)) == (False, [later])


def test_a_rolled_back_server_has_not_learned_what_came_later(world):
    running = world.server()
    (sent,) = ids_of(running.add(example(seed=1)))
    position = world.store.pending.locate([sent])[sent].position
    world.publish(1)
    world.publish(2, learned={"cat": position}, consumed={"cat": position})
    running.serves(2)
    assert _wait(running, sent).learned
    world.store.registry.activate(1)
    running.serves(1)
    assert not _wait(running, sent, timeout_ms=50).learned


def test_waiting_for_what_is_deleted_meanwhile_ends_with_not_found(world):
    world.publish(1)
    running = world.server()
    (sent,) = ids_of(running.add(example("owl", seed=1)))
    outcome = []

    def wait() -> None:
        outcome.append(failure(lambda: _wait(running, sent)).code)

    waiter = threading.Thread(target=wait)
    waiter.start()
    until(lambda: running.server.stream_limit.open == 1)
    world.store.control.forget_class("owl")
    waiter.join(20)
    assert outcome == [grpc.StatusCode.NOT_FOUND]


def test_a_caller_that_hangs_up_makes_room_for_another(world):
    world.publish(1)
    running = world.server()
    (sent,) = ids_of(running.add(example(seed=1)))
    call = running.teaching.WaitLearned.future(teaching_pb2.WaitLearnedRequest(ids=[sent]), timeout=30)
    watch = running.teaching.Watch(teaching_pb2.WatchRequest(), timeout=30)
    until(lambda: running.server.stream_limit.open == 2)
    call.cancel()
    watch.cancel()
    until(lambda: running.server.stream_limit.open == 0)


def test_long_lived_calls_are_bounded(world):
    running = world.server(max_watchers=1)
    watch = running.teaching.Watch(teaching_pb2.WatchRequest(), timeout=30)
    until(lambda: running.server.stream_limit.open == 1)
    failed = failure(lambda: next(running.teaching.Watch(teaching_pb2.WatchRequest(), timeout=30)))
    assert failed.code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "max_watchers is 1" in failed.details
    watch.cancel()


def test_watching_tells_every_kind_of_event_as_it_happens(world):
    running = world.server()
    watches = [running.teaching.Watch(teaching_pb2.WatchRequest(), timeout=30) for _ in range(2)]
    for watch in watches:
        watch.initial_metadata()  # the watch has begun
    accuracy = {"all": 0.5, "old": None, "new": 0.5, "average_incremental": 0.5, "forgetting": None, "examples": 4}
    bodies = {
        "phase": {"phase": "training", "reason": "2 new classes"},
        "progress": {"version": 1, "stage": "train", "done": 1, "total": 2, "loss": 0.5},
        "committed": {"version": 1, "new_labels": ["cat"], "accuracy": accuracy, "step_seconds": 2.0},
        "activated": {"version": 1, "pinned": False},
        "rejected": {"version": 2, "reason": "worse", "accuracy": accuracy},
        "failed": {"reason": "no disk", "attempt": 2},
        "forgotten": {"label": "cat"},
        "provisional": {"label": "owl", "examples": 3},
        "reviewed": {"label": "owl", "examples": 9, "reasons": ["burst", "share"]},
    }
    for kind, body in bodies.items():
        world.store.events.append(kind, body)
    for watch in watches:
        events = list(itertools.islice(watch, len(bodies)))
        assert [event.WhichOneof("what") for event in events] == list(bodies)
        assert events[0].phase.phase == types_pb2.TRAINING
        assert events[2].committed.accuracy.all == 0.5
        assert np.isnan(events[2].committed.accuracy.old)
        assert events[7].provisional.label == "owl"
        assert list(events[8].reviewed.reasons) == ["burst", "share"]
        assert all(event.time_ms > 0 for event in events)


def test_watching_goes_on_from_where_a_caller_left_off(world):
    running = world.server()
    written = [world.store.events.append("provisional", {"label": "x", "examples": n}) for n in range(5)]
    after = teaching_pb2.WatchRequest(after=written[1])
    events = list(itertools.islice(running.teaching.Watch(after, timeout=30), 3))
    assert [event.id for event in events] == written[2:]
    every = running.teaching.Watch(teaching_pb2.WatchRequest(after="0"), timeout=30)
    assert [event.id for event in itertools.islice(every, 5)] == written
