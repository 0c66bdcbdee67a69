"""Predicting: what may be given, what is sent, what comes back."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest

from accrete import InternalError, InvalidInput, LimitExceeded, NoModel, NotNow, Prediction, RankedLabel, Timings
from accrete.v1 import types_pb2
from benchmarks.waiting import until


def test_one_image_gives_one_prediction(client, image):
    prediction = client.predict(image)
    assert (prediction.label, prediction.probability, prediction.provisional) == ("cat", 0.75, False)
    assert [one.label for one in prediction.ranked] == ["cat", "heron"]
    assert prediction.ranked[1].provisional
    assert prediction.version == 1
    assert prediction.timings.total_ms == 2.0
    assert prediction.features is None


def test_a_list_gives_a_list_even_of_one(client, image):
    assert len(client.predict([image])) == 1
    assert client.predict([]) == []


def test_features_come_as_float32_when_asked_for(client, image):
    features = client.predict(image, features=True).features
    assert features.dtype == np.float32
    assert features.tolist() == [image.nbytes, 2.0]


def test_images_near_no_class_are_marked_when_asked_for(client, image):
    assert not client.predict(image).unknown
    marked = client.predict(image, unknown_rate=0.05)
    assert (marked.unknown, marked.label, marked.false_alarm_rate) == (True, "cat", pytest.approx(0.048))


@pytest.mark.parametrize(
    ("what", "threshold", "doubt"),
    [
        ({}, 0.8, None),
        ({}, 0.81, "improbable"),
        ({"probability": 0.79}, 0.8, "improbable"),
        ({"probability": 0.79}, 0.5, None),
        ({"provisional": True}, 0.5, "provisional"),
        ({"unknown": True}, 0.0, "unknown"),
        ({"unknown": True, "provisional": True, "probability": 0.1}, 0.8, "unknown"),
    ],
)
def test_what_a_person_should_look_at(what, threshold, doubt):
    best = {"probability": 0.8, "provisional": False} | what
    unknown = bool(best.pop("unknown", False))
    prediction = Prediction(
        ranked=(RankedLabel(label="cat", **best),),
        version=1,
        timings=Timings(decode_ms=0, queue_ms=0, compute_ms=0, total_ms=0),
        unknown=unknown,
    )
    assert prediction.doubt(threshold) == doubt
    assert prediction.needs_review == (prediction.doubt() is not None)


def test_an_answer_below_the_default_threshold_needs_review(client, image):
    assert client.predict(image).needs_review
    assert client.predict(image).doubt(0.75) is None


def test_top_k_is_passed_on(client, image):
    assert len(client.predict(image, top_k=1).ranked) == 1


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (4, 5, 3), (4, 5, 4)])
def test_a_uint8_array_is_sent_as_it_is(client, state, shape):
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    client.predict(np.asfortranarray(array))
    tensor = state.requests("Predict")[0].images[0].tensor
    assert tensor.dtype == types_pb2.Tensor.UINT8
    assert tuple(tensor.shape) == shape
    assert tensor.data == array.tobytes()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4"])
def test_a_float_vector_is_sent_as_little_endian_float32(client, state, dtype):
    client.predict(np.array([0.5, -2.0, 3.0], dtype=dtype))
    tensor = state.requests("Predict")[0].images[0].tensor
    assert tensor.dtype == types_pb2.Tensor.FLOAT32
    assert list(tensor.shape) == [3]
    assert np.frombuffer(tensor.data, "<f4").tolist() == [0.5, -2.0, 3.0]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_are_sent_as_an_encoded_image(client, state, kind):
    client.predict(kind(b"\x89PNG"))
    assert state.requests("Predict")[0].images[0].encoded == b"\x89PNG"


@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_a_path_is_read_and_its_bytes_are_sent(client, state, tmp_path, kind):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"jpeg bytes")
    client.predict(kind(path))
    assert state.requests("Predict")[0].images[0].encoded == b"jpeg bytes"


def test_a_npy_file_is_sent_as_the_array_it_holds(client, state, tmp_path):
    np.save(tmp_path / "vector.npy", np.array([1.0, 2.0]))
    client.predict(tmp_path / "vector.npy")
    assert list(state.requests("Predict")[0].images[0].tensor.shape) == [2]


def test_a_pickled_npy_file_is_refused_unread(client, tmp_path):
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(InvalidInput, match=r"objects\.npy"):
        client.predict(tmp_path / "objects.npy")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (np.zeros((3, 8, 8), np.uint8), "channels come last"),
        (np.zeros((2, 8, 8, 3), np.uint8), "give a list"),
        (np.zeros((8, 8), np.float32), "uint8 images"),
        (np.zeros((8, 8), np.int64), "uint8 images"),
        (np.zeros(3, bool), "uint8 images"),
        ("/nowhere/a.png", "No such file"),
    ],
)
def test_an_input_that_cannot_be_used_is_named_and_the_others_are_answered(client, state, image, given, says):
    predictions = client.predict([image, given])
    assert predictions[0].label == "cat"
    assert says in predictions[1].refused
    assert predictions[1].refused.startswith("/nowhere/a.png: " if isinstance(given, str) else "images[1]: ")
    assert len(state.requests("Predict")[0].images) == 1
    with pytest.raises(InvalidInput, match=says):
        predictions[1].label  # noqa: B018
    state.calls.clear()
    with pytest.raises(InvalidInput, match=says):
        client.predict(given)
    assert not state.calls


def test_an_object_that_is_no_image_is_refused_by_its_type(client):
    assert client.predict([{}])[0].refused.startswith("images[0]: a dict; an array, bytes")


def test_more_images_than_a_call_takes_are_split_and_come_back_in_order(client, state):
    predictions = client.predict([bytes(n + 1) for n in range(150)], features=True)
    assert [prediction.features[0] for prediction in predictions] == list(range(1, 151))
    assert sorted(len(request.images) for request in state.requests("Predict")) == [17] + 7 * [19]


@pytest.mark.parametrize(
    ("images", "window", "calls"), [(64, 8, [64]), (65, 1, [32, 33]), (65, 8, 5 * [13]), (128, 2, [64, 64])]
)
def test_calls_are_even_and_as_many_as_may_be_under_way(client, state, images, window, calls):
    client.predict([b"a"] * images, window=window)
    assert sorted(len(request.images) for request in state.requests("Predict")) == calls


@pytest.mark.parametrize("window", [1, 3])
def test_so_many_calls_are_under_way_at_once(client, state, window):
    state.hangs.add("Predict")
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client.predict, [bytes(n + 1) for n in range(512)], features=True, window=window)
        until(lambda: len(state.calls) == window)
        state.release("Predict")
        assert [one.features[0] for one in asked.result()] == list(range(1, 513))
    assert len(state.calls) == 8


def test_an_error_of_one_call_of_many_is_raised_and_no_further_call_begins(client, state):
    state.fail("Predict", grpc.StatusCode.INTERNAL)
    with pytest.raises(InternalError):
        client.predict([b"a"] * 6400, window=2)
    assert len(state.calls) < 100


def test_a_window_is_of_one_call_or_more(client, state):
    with pytest.raises(InvalidInput, match="window 0"):
        client.predict([b"a"], window=0)
    assert not state.calls


def test_images_are_split_by_bytes_too(client, state):
    client.predict([bytes(12 * 1024 * 1024)] * 5)
    assert sorted(len(request.images) for request in state.requests("Predict")) == [1, 2, 2]


def test_large_files_are_split_before_they_are_read(client, state, tmp_path):
    file = tmp_path / "large.jpg"
    file.write_bytes(bytes(12 * 1024 * 1024))
    client.predict([file] * 5)
    assert sorted(len(request.images) for request in state.requests("Predict")) == [1, 2, 2]


def test_a_call_is_halved_while_the_server_says_that_it_is_too_much(client, state):
    state.max_images = 10
    predictions = client.predict([bytes(n + 1) for n in range(64)], features=True)
    assert [prediction.features[0] for prediction in predictions] == list(range(1, 65))
    assert [len(request.images) for request in state.requests("Predict")][:5] == [64, 32, 16, 8, 8]


def test_one_image_that_is_too_much_is_an_error(client, state):
    state.max_images = 0
    with pytest.raises(LimitExceeded, match="max_images") as caught:
        client.predict(b"a")
    assert caught.value.retry_after is None
    assert [one.refused for one in client.predict([b"a", b"b"])] == ["images[0]: max_images", "images[1]: max_images"]


def test_images_that_the_server_refuses_are_told_in_their_places_also_behind_a_split(client, state):
    images = [b"bad" if n % 11 == 3 else bytes(n + 1) for n in range(100)]
    predictions = client.predict(images, features=True)
    for n, (image, prediction) in enumerate(zip(images, predictions, strict=True)):
        if image == b"bad":
            assert prediction.refused == f"images[{n}]: not an image"
        else:
            assert not prediction.refused
            assert prediction.features[0] == len(image)
    state.max_images = 5  # halved and refused at once
    assert [one.refused for one in client.predict(images)] == [one.refused for one in predictions]


def test_a_batch_of_bad_images_alone_takes_a_call_for_each_at_most(client, state):
    assert all(one.refused for one in client.predict([b"bad"] * 64))
    assert len(state.requests("Predict")) == 64


def test_a_file_that_the_server_refuses_is_named(client, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"bad")
    refused = f"{tmp_path / 'broken.jpg'}: not an image"
    assert [one.refused for one in client.predict([b"good", tmp_path / "broken.jpg"])] == ["", refused]
    with pytest.raises(InvalidInput) as caught:
        client.predict(tmp_path / "broken.jpg")
    assert caught.value.details == refused


def test_what_is_wrong_with_the_call_rather_than_an_image_is_raised(client, state):
    state.fail("Predict", grpc.StatusCode.INVALID_ARGUMENT, details="top_k: 0 to 1000 is allowed")
    with pytest.raises(InvalidInput, match="top_k"):
        client.predict([b"a", b"b"])


def test_no_model_yet_has_an_error_of_its_own(client, state, image):
    state.fail("Predict", grpc.StatusCode.FAILED_PRECONDITION, details="teach first")
    with pytest.raises(NoModel, match="teach first") as caught:
        client.predict(image)
    assert isinstance(caught.value, NotNow)
