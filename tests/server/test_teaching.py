"""Teaching: what is stored, what is waited for, what is watched."""

from __future__ import annotations

import itertools
import threading

import grpc
import numpy as np
import pytest
from PIL import Image

from accrete.v1 import teaching_pb2, types_pb2
from accrete_storage.examples.encoded_image import EncodedImage
from accrete_storage.examples.example import Example as StoredExample
from accrete_storage.examples.ids import content_digest, sent_digest
from benchmarks.waiting import until
from tests.model.artifacts import Recipe
from tests.server.pictures import encode, picture
from tests.server.world import Running, example, failure, ids_of, pixels, raw

STORED = teaching_pb2.ExampleResult.STORED
DUPLICATE = teaching_pb2.ExampleResult.DUPLICATE
REFUSED = teaching_pb2.ExampleResult.REFUSED


def _wait(running: Running, *ids: str, timeout_ms: int = 20_000) -> teaching_pb2.WaitLearnedResponse:
    request = teaching_pb2.WaitLearnedRequest(ids=ids, timeout_ms=timeout_ms)
    return running.teaching.WaitLearned(request, timeout=300)


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


def test_a_large_image_is_stored_as_jpeg_under_the_id_of_what_was_sent(world):
    running = world.server(Recipe(shape=(64, 64, 3)))
    sent = np.asarray(picture(64, 64))
    results = running.add(*[teaching_pb2.Example(label="cat", image=raw(sent))] * 2)
    assert [result.outcome for result in results] == [STORED, DUPLICATE]
    assert results[0].id == sent_digest("cat", "1 64,64,3", sent.tobytes()).hex()
    (entry,) = world.store.pending.read("cat")
    assert isinstance(entry.example.content, EncodedImage)
    assert np.abs(entry.example.tensor.astype(int) - sent).max() < 20


def test_an_id_is_made_from_what_was_sent_when_none_is_given(world):
    running = world.server()
    results = running.add(example(seed=1), example(seed=2), example(seed=1), example("dog", seed=1))
    assert [result.outcome for result in results] == [STORED, STORED, DUPLICATE, STORED]
    sent = ("1 4,4,3", pixels(1).tobytes())
    assert results[0].id == results[2].id == sent_digest("cat", *sent).hex()
    assert [result.outcome for result in running.add(example(seed=2))] == [DUPLICATE]


def _grey(values: np.ndarray) -> bytes:
    return encode(Image.fromarray(values), "PNG")


def _with_alpha(alpha: int) -> bytes:
    image = picture(4, 4)
    image.putalpha(alpha)
    return encode(image, "PNG")


def _palette(shift: int) -> bytes:
    """A picture of the same colours, by a palette in another order."""
    indexed = Image.fromarray((np.arange(16, dtype=np.uint8).reshape(4, 4) + shift) % 16, "P")
    indexed.putpalette([value for n in range(16) for value in [(n - shift) % 16 * 10] * 3])
    return encode(indexed, "PNG")


def _animation(second: int) -> bytes:
    return encode(picture(4, 4), "PNG", save_all=True, append_images=[picture(4, 4, seed=second)])


DROPPED = {
    "alpha": (_with_alpha(255), _with_alpha(254)),
    "low bits of grey": (_grey(np.full((4, 4), 0x8001, np.uint16)), _grey(np.full((4, 4), 0x8002, np.uint16))),
    "order of a palette": (_palette(0), _palette(1)),
    "later frames": (_animation(1), _animation(2)),
    "what resizing loses": (_grey(np.full((64, 64), 7, np.uint8)), _grey(np.full((65, 65), 7, np.uint8))),
    "profile": (encode(picture(4, 4), "PNG", icc_profile=b"a"), encode(picture(4, 4), "PNG", icc_profile=b"b")),
    "behind the end": (encode(picture(4, 4), "JPEG"), encode(picture(4, 4), "JPEG") + b"video"),
}


@pytest.mark.parametrize("name", DROPPED)
def test_images_that_differ_in_what_the_model_does_not_see_are_two_examples(world, name):
    running = world.server()
    wires = [teaching_pb2.Example(label="cat", image=types_pb2.Image(encoded=data)) for data in DROPPED[name]]
    results = running.add(*wires, *wires)
    assert [result.outcome for result in results] == [STORED, STORED, DUPLICATE, DUPLICATE]
    tensors = [entry.example.tensor for entry in world.store.pending.read("cat")]
    np.testing.assert_array_equal(*tensors)


def test_an_id_that_was_stored_is_refused_for_an_image_that_differs_in_what_the_model_does_not_see(world):
    running = world.server()
    opaque, clear = (
        teaching_pb2.Example(label="cat", id="a", image=types_pb2.Image(encoded=data)) for data in DROPPED["alpha"]
    )
    results = running.add(opaque, clear, opaque)
    assert [result.outcome for result in results] == [STORED, REFUSED, DUPLICATE]
    assert "stored before" in results[1].reason


def test_alpha_of_raw_pixels_makes_two_examples(world):
    running = world.server()
    arrays = [np.full((4, 4, 4), [9, 9, 9, alpha], np.uint8) for alpha in (1, 2)]
    wires = [teaching_pb2.Example(label="cat", image=raw(array)) for array in arrays]
    assert [result.outcome for result in running.add(*wires)] == [STORED, STORED]


def test_what_an_earlier_release_stored_is_stored_no_second_time(world):
    tensor = np.asarray(picture(4, 4))
    by_content = content_digest("cat", tensor).hex()
    world.store.pending.add([StoredExample(id=by_content, label="cat", content=tensor)])
    world.store.pending.add([StoredExample(id="own", label="cat", content=tensor)])
    running = world.server()
    image = types_pb2.Image(encoded=encode(picture(4, 4), "PNG"))
    results = running.add(
        teaching_pb2.Example(label="cat", image=image),
        teaching_pb2.Example(label="cat", image=image, id="own"),
        teaching_pb2.Example(label="dog", image=image),
    )
    assert [result.outcome for result in results] == [DUPLICATE, DUPLICATE, STORED]
    assert results[0].id == by_content  # what `WaitLearned` knows
    assert set(world.store.pending.locate([result.id for result in results])) == {by_content, "own", results[2].id}


def test_a_stream_is_answered_batch_by_batch_in_order(world):
    running = world.server()
    batches = [teaching_pb2.AddExamplesRequest(examples=[example(seed=n), example(seed=n + 100)]) for n in range(5)]
    answers = list(running.teaching.StreamExamples(iter(batches), timeout=300))
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
    call = running.teaching.WaitLearned.future(teaching_pb2.WaitLearnedRequest(ids=[sent]), timeout=300)
    watch = running.teaching.Watch(teaching_pb2.WatchRequest(), timeout=300)
    until(lambda: running.server.stream_limit.open == 2)
    call.cancel()
    watch.cancel()
    until(lambda: running.server.stream_limit.open == 0)


def test_long_lived_calls_are_bounded(world):
    running = world.server(max_watchers=1)
    watch = running.teaching.Watch(teaching_pb2.WatchRequest(), timeout=300)
    until(lambda: running.server.stream_limit.open == 1)
    failed = failure(lambda: next(running.teaching.Watch(teaching_pb2.WatchRequest(), timeout=300)))
    assert failed.code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "max_watchers is 1" in failed.details
    watch.cancel()


def test_watching_tells_every_kind_of_event_as_it_happens(world):
    running = world.server()
    watches = [running.teaching.Watch(teaching_pb2.WatchRequest(), timeout=300) for _ in range(2)]
    for watch in watches:
        watch.initial_metadata()  # the watch has begun
    accuracy = {"all": 0.5, "old": None, "new": 0.5, "average_incremental": 0.5, "forgetting": None, "examples": 4}
    accuracy["new_examples"] = 3
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
        assert (events[2].committed.accuracy.examples, events[2].committed.accuracy.new_examples) == (4, 3)
        assert np.isnan(events[2].committed.accuracy.old)
        assert events[7].provisional.label == "owl"
        assert list(events[8].reviewed.reasons) == ["burst", "share"]
        assert all(event.time_ms > 0 for event in events)


def test_watching_goes_on_from_where_a_caller_left_off(world):
    running = world.server()
    written = [world.store.events.append("provisional", {"label": "x", "examples": n}) for n in range(5)]
    after = teaching_pb2.WatchRequest(after=written[1])
    events = list(itertools.islice(running.teaching.Watch(after, timeout=300), 3))
    assert [event.id for event in events] == written[2:]
    every = running.teaching.Watch(teaching_pb2.WatchRequest(after="0"), timeout=300)
    assert [event.id for event in itertools.islice(every, 5)] == written
