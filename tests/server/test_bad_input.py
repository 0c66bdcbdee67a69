"""Every row of the table of bad input: the code, what the message names, and that nothing changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import grpc
import numpy as np
import pytest

from accrete.v1 import operation_pb2, prediction_pb2, teaching_pb2, types_pb2
from tests.model.artifacts import Recipe
from tests.server.pictures import encode, picture, png_header
from tests.server.world import Running, World, example, failure, pixels, raw

INVALID = grpc.StatusCode.INVALID_ARGUMENT
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
NOT_FOUND = grpc.StatusCode.NOT_FOUND
REFUSED = teaching_pb2.ExampleResult.REFUSED
STORED = teaching_pb2.ExampleResult.STORED
DUPLICATE = teaching_pb2.ExampleResult.DUPLICATE

PNG = encode(picture(40, 30, seed=2).effect_spread(9), "PNG")

BAD_IMAGES: dict[str, tuple[dict[str, Any], str]] = {
    "no-image": ({"encoded": b"not an image"}, "not a JPEG, PNG, WebP or BMP image"),
    "truncated": ({"encoded": PNG[: len(PNG) // 2]}, "truncated or damaged PNG"),
    "unknown-format": ({"encoded": encode(picture(), "GIF")}, "not a JPEG, PNG, WebP or BMP image"),
    "no-bytes": ({"encoded": b""}, "no bytes"),
    "empty": ({}, "empty: neither encoded bytes nor a tensor"),
    "too-many-pixels": ({"encoded": png_header(5001, 5000)}, "max_pixels is 25000000"),
    "too-many-bytes": ({"encoded": bytes(3 * 2**20)}, "max_image_bytes is 2097152"),
    "zero-sized": ({"tensor": {"dtype": 1, "shape": [0, 4, 3], "data": b""}}, "no pixels"),
    "wrong-size": ({"tensor": {"dtype": 1, "shape": [4, 4, 3], "data": b"x"}}, "1 bytes for shape"),
    "wrong-channels": ({"tensor": {"dtype": 1, "shape": [4, 4, 2], "data": bytes(32)}}, "shape"),
    "no-dtype": ({"tensor": {"dtype": 0, "shape": [4, 4, 3], "data": bytes(48)}}, "dtype 0"),
    "vector": ({"tensor": {"dtype": 2, "shape": [6], "data": bytes(24)}}, "takes images"),
}


@pytest.fixture
def running(world: World):
    world.publish(1)
    return world.server(max_image_bytes=2 * 2**20)


def _changed_nothing(world: World, running: Running) -> None:
    assert running.predict().version == 1
    assert world.store.pending.total().examples == 0


def test_a_bad_image_in_predict_is_named_by_its_index_with_the_reason(world, running):
    for name, (image, reason) in BAD_IMAGES.items():
        request = prediction_pb2.PredictRequest(images=[raw(pixels()), types_pb2.Image(**image)])
        failed = failure(partial(running.prediction.Predict, request, timeout=300))
        assert failed.code == INVALID, name
        assert failed.details.startswith("images[1]: "), name
        assert reason in failed.details, name
        _changed_nothing(world, running)


def test_a_bad_image_in_a_batch_is_refused_and_the_rest_is_stored(world, running):
    for number, (name, (image, reason)) in enumerate(BAD_IMAGES.items(), 1):
        bad = teaching_pb2.Example(label="cat", id="bad", image=types_pb2.Image(**image))
        results = running.add(example(seed=2 * number), bad, example(seed=2 * number + 1))
        assert [result.outcome for result in results] == [STORED, REFUSED, STORED], name
        assert (results[1].id, results[1].code) == ("bad", INVALID.value[0]), name
        assert results[1].reason.startswith("examples[1].image: "), name
        assert reason in results[1].reason, name
        assert world.store.pending.total().examples == 2 * number, name


BAD_FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"label": ""}, "label: empty"),
    ({"label": " \t"}, "label: empty"),
    ({"label": "x" * 257}, "label: 257 bytes of UTF-8; max_label_bytes is 256"),
    ({"label": "a\x07b"}, "label: holds a control character"),
    ({"label": " a"}, "label: starts or ends with a blank"),
    ({"label": "cafe\u0301"}, "label: not in Unicode normal form C"),
    ({"example_id": "x" * 129}, "id: 129 characters"),
    ({"example_id": "a\nb"}, "id: holds a control character"),
    ({"metadata": {str(index): "" for index in range(17)}}, "metadata: 17 entries"),
    ({"metadata": {"k": "x" * 1024}}, "metadata: 1025 bytes"),
]


def test_a_bad_label_id_or_metadata_is_refused_and_the_rest_is_stored(world, running):
    for number, (fields, reason) in enumerate(BAD_FIELDS, 1):
        results = running.add(example(seed=2 * number), example(**{"seed": 2 * number + 1, **fields}))
        assert [result.outcome for result in results] == [STORED, REFUSED], reason
        assert results[1].code == INVALID.value[0], reason
        assert f"examples[1].{reason}" in results[1].reason
        assert {label: count.examples for label, count in world.store.pending.counts().items()} == {"cat": number}


def test_the_same_id_with_other_content_is_refused_as_already_existing(world, running):
    assert [r.outcome for r in running.add(example(seed=1, example_id="a"))] == [STORED]
    results = running.add(
        example(seed=1, example_id="a"), example(seed=2, example_id="a"), example("dog", 1, example_id="a")
    )
    assert [result.outcome for result in results] == [DUPLICATE, REFUSED, REFUSED]
    assert {result.code for result in results[1:]} == {grpc.StatusCode.ALREADY_EXISTS.value[0]}
    assert results[2].reason.startswith("examples[2].id: stored before")
    assert world.store.pending.total().examples == 1


def test_a_vector_that_is_not_finite_is_refused(world):
    recipe = Recipe(shape=(6,))
    world.publish(1, recipe)
    running = world.server(recipe)
    for value in (np.nan, np.inf, -np.inf):
        vector = np.zeros(6, np.float32)
        vector[2] = value
        request = prediction_pb2.PredictRequest(images=[raw(vector)])
        failed = failure(partial(running.prediction.Predict, request, timeout=300))
        assert failed.code == INVALID
        assert "images[0]: values that are not finite" in failed.details
        results = running.add(teaching_pb2.Example(label="cat", image=raw(vector)))
        assert results[0].outcome == REFUSED


def _predict(running: Running, **fields: Any) -> prediction_pb2.PredictResponse:
    return running.prediction.Predict(prediction_pb2.PredictRequest(**fields), timeout=300)


def _fails(call: Callable[[], object], code: grpc.StatusCode, *texts: str) -> dict[str, str]:
    failed = failure(lambda: call())
    assert failed.code == code, failed.details
    for text in texts:
        assert text in failed.details
    return failed.trailers


def test_too_many_images_or_examples_name_the_limit_and_its_value(world, running):
    image = raw(pixels())
    _fails(lambda: _predict(running, images=[image] * 65), EXHAUSTED, "65 images", "max_images is 64", "send less")
    _fails(lambda: running.add(*[example(seed=1)] * 257), EXHAUSTED, "257 examples", "max_examples is 256", "send less")
    _fails(lambda: _predict(running, images=[]), INVALID, "images: empty")
    _fails(lambda: running.add(), INVALID, "examples: empty")
    _fails(lambda: _predict(running, images=[image], top_k=1001), INVALID, "top_k: 1001")
    _fails(lambda: _predict(running, images=[image], top_k=-1), INVALID, "top_k: -1")
    _changed_nothing(world, running)


def test_a_message_over_the_limit_is_refused_with_both_sizes(world):
    world.publish(1)
    running = world.server(max_message_bytes=100_000)
    image = types_pb2.Image(encoded=bytes(200_000))
    _fails(lambda: _predict(running, images=[image]), EXHAUSTED, "100000")
    assert running.predict().version == 1


def test_a_full_pending_budget_refuses_the_batch_with_the_limit_and_when_to_retry(world):
    world.config = replace(world.config, pending_max_examples=3)
    running = world.server()
    running.add(example(seed=1), example(seed=2))
    trailers = _fails(
        lambda: running.add(example(seed=3), example(seed=4)),
        EXHAUSTED,
        "pending_max_examples",
        "3",
        "retry in",
    )
    assert int(trailers["retry-after-ms"]) > 0
    assert world.store.pending.total().examples == 2
    assert [result.outcome for result in running.add(example(seed=3))] == [STORED]


def test_unknown_versions_labels_and_ids_are_not_found(world, running):
    operation, teaching = running.operation, running.teaching
    _fails(lambda: operation.ActivateVersion(operation_pb2.ActivateVersionRequest(version=7)), NOT_FOUND, "7")
    _fails(lambda: operation.ForgetClass(operation_pb2.ForgetClassRequest(label="unicorn")), NOT_FOUND, "unicorn")
    _fails(lambda: operation.DeleteExamples(operation_pb2.DeleteExamplesRequest(ids=["x", "y"])), NOT_FOUND, "ids")
    wait = teaching_pb2.WaitLearnedRequest(ids=["nobody"], timeout_ms=1000)
    _fails(lambda: teaching.WaitLearned(wait, timeout=300), NOT_FOUND, "nobody")
    _changed_nothing(world, running)


def test_lists_of_ids_and_times_are_checked(world, running):
    operation, teaching = running.operation, running.teaching
    many = [str(number) for number in range(10_001)]
    _fails(lambda: operation.DeleteExamples(operation_pb2.DeleteExamplesRequest(ids=many)), EXHAUSTED, "max_ids")
    _fails(lambda: operation.DeleteExamples(operation_pb2.DeleteExamplesRequest()), INVALID, "ids: empty")
    _fails(lambda: teaching.WaitLearned(teaching_pb2.WaitLearnedRequest(ids=many)), EXHAUSTED, "10000")
    _fails(lambda: teaching.WaitLearned(teaching_pb2.WaitLearnedRequest()), INVALID, "ids: empty")
    for wrong in (-1, 3_600_001):
        wait = teaching_pb2.WaitLearnedRequest(ids=["x"], timeout_ms=wrong)
        _fails(lambda: teaching.WaitLearned(wait), INVALID, "timeout_ms")  # noqa: B023
    watch = teaching_pb2.WatchRequest(after="yesterday")
    _fails(lambda: next(teaching.Watch(watch, timeout=300)), INVALID, "after")
    _fails(lambda: operation.ForgetClass(operation_pb2.ForgetClassRequest(label="")), INVALID, "label: empty")


def test_a_fault_of_ours_is_internal_and_tells_nothing_of_the_inside(world, running, caplog):
    view = running.server.slots.live

    def break_down(batch):
        raise RuntimeError("secret detail")

    view.slot.loaded.features = break_down
    failed = failure(lambda: running.predict())
    assert failed.code == grpc.StatusCode.INTERNAL
    assert "secret" not in failed.details
    assert "secret detail" in caplog.text
    del view.slot.loaded.features
    _changed_nothing(world, running)


def test_bytes_that_are_no_message_are_bad_input_and_no_fault_of_ours(running):
    for path in ("/accrete.v1.Prediction/Predict", "/accrete.v1.Teaching/StreamExamples"):
        call = running.channel.stream_stream(path, lambda data: data, lambda data: data)
        with pytest.raises(grpc.RpcError) as refused:
            list(call(iter([b"\xff\xff\xff"]), timeout=300))
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "not a message" in str(refused.value.details())
