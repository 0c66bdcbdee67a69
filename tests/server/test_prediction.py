"""Predict, end to end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import grpc
import numpy as np
import pytest

from accrete import Client, Share
from accrete.v1 import prediction_pb2, types_pb2
from accrete_model.config import EngineConfig
from accrete_model.loaded_version import load
from accrete_storage.versions.prototypes import Prototype
from benchmarks.waiting import until
from tests.model.artifacts import Recipe, class_row
from tests.server.pictures import encode, picture
from tests.server.world import Blocked, World, failure, labels_of, pixels, raw, total

FOUR = ("cat", "dog", "owl", "yak")


def _expected(world: World, version: int, *seeds: int) -> tuple[Any, Any, Any]:
    loaded = load(world.artifacts.path(version), version, EngineConfig(device="cpu"))
    features = loaded.features(np.stack([pixels(seed) for seed in seeds]))
    classifier = loaded.classifier()
    return classifier.labels, classifier(features), classifier.provisional


def test_an_answer_ranks_labels_with_probabilities_and_names_its_version(world):
    world.publish(1, Recipe(labels=FOUR))
    answer = world.server().predict(3, 4)
    labels, probabilities, _ = _expected(world, 1, 3, 4)
    assert answer.version == 1
    for got, wanted in zip(answer.predictions, probabilities, strict=True):
        order = np.argsort(-wanted)
        assert [ranked.label for ranked in got.labels] == [labels[index] for index in order]
        np.testing.assert_allclose([ranked.probability for ranked in got.labels], wanted[order], atol=1e-6)
        assert not any(ranked.provisional for ranked in got.labels)
    assert answer.timings.total_ms >= answer.timings.compute_ms > 0


def test_images_kept_aside_are_measured_as_they_are_answered_one_by_one(world, tmp_path):
    world.publish(1, Recipe(labels=FOUR))
    running = world.server()
    for seed in range(40):
        path = tmp_path / [*FOUR, "bat"][seed % 5] / f"{seed}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encode(picture(4, 4, seed=seed), "PNG"))
    (tmp_path / "cat" / "broken.jpg").write_bytes(b"\xff\xd8 no JPEG")
    with Client(running.server.address) as client:
        found = client.evaluate(tmp_path, unknown_rate=0.05)
        answers = {path: client.predict(path).label for path in tmp_path.rglob("*.png")}
    for label in FOUR:
        own = [answer for path, answer in answers.items() if path.parent.name == label]
        assert found.classes[label] == Share(right=own.count(label), images=8)
    assert found.all.images == 32
    assert found.all.right == sum(one.right for one in found.classes.values())
    assert found.strangers == {"bat": 8}
    ((file, label, reason),) = [(one.file, one.label, one.reason) for one in found.refused]
    assert (file, label) == (str(tmp_path / "cat" / "broken.jpg"), "cat")
    assert "JPEG" in reason


def test_top_k_is_never_more_than_there_are_classes(world):
    world.publish(1, Recipe(labels=FOUR))
    running = world.server()
    for asked, given in ((1, 1), (2, 2), (0, 4), (1000, 4)):
        assert [len(labels) for labels in labels_of(running.predict(1, 2, top_k=asked))] == [given, given], asked


def test_features_come_when_asked_for(world):
    world.publish(1)
    running = world.server()
    loaded = load(world.artifacts.path(1), 1, EngineConfig(device="cpu"))
    answer = running.predict(5, features=True)
    np.testing.assert_allclose(answer.predictions[0].features, loaded.features(pixels(5)[None])[0], rtol=1e-5)
    assert not running.predict(5).predictions[0].features


@pytest.mark.parametrize(("head", "rule"), [("linear", "nme"), ("cosine", "nme"), ("linear", "knn"), ("linear", "svm")])
def test_the_rule_is_the_versions_own(world, head, rule):
    world.publish(1, Recipe(labels=FOUR, head=head, rule="head"))
    world.publish(2, Recipe(labels=FOUR, head=head, rule=rule))
    running = world.server()
    assert running.predict(1).version == 2
    _, by_head, _ = _expected(world, 1, 1)
    labels, by_rule, _ = _expected(world, 2, 1)
    assert np.abs(by_head - by_rule).max() > 1e-3
    best = running.predict(1, top_k=1).predictions[0].labels[0]
    assert best.probability == pytest.approx(by_rule.max(), abs=1e-6)
    assert best.label == labels[int(by_rule.argmax())]


def test_encoded_images_and_raw_pixels_are_answered_alike(world):
    world.publish(1)
    running = world.server()
    for kind in ("PNG", "JPEG", "WEBP", "BMP"):
        data = encode(picture(4, 4), kind, **({"lossless": True} if kind == "WEBP" else {}))
        request = prediction_pb2.PredictRequest(images=[raw(np.asarray(picture(4, 4))), types_pb2.Image(encoded=data)])
        from_pixels, from_file = running.prediction.Predict(request, timeout=300).predictions
        again = running.prediction.Predict(request, timeout=300)
        assert labels_of(again)[0] == [ranked.label for ranked in from_file.labels], kind
        if kind != "JPEG":
            assert from_pixels == from_file, kind


def test_a_model_of_embeddings_takes_vectors(world):
    recipe = Recipe(shape=(6,))
    world.publish(1, recipe)
    running = world.server(recipe)
    request = prediction_pb2.PredictRequest(images=[raw(class_row("dog", 6))])
    assert labels_of(running.prediction.Predict(request, timeout=300))[0][0] == "dog"


def test_without_a_version_the_answer_says_how_to_teach_one(world):
    failed = failure(lambda: world.server().predict())
    assert failed.code == grpc.StatusCode.FAILED_PRECONDITION
    assert "add examples (accrete add DIR, or Teaching.AddExamples)" in failed.details


def test_the_first_version_is_served_as_soon_as_it_is_committed(world):
    running = world.server()
    world.publish(1)
    running.serves(1)
    assert running.predict().version == 1


def _with_prototype(world: World, *labels: str, version: int = 1, length: int = 6, margin: float = 0.0) -> None:
    for label in labels:
        row = class_row(label, length)
        prototype = Prototype(vector=row / np.linalg.norm(row), count=3)
        world.store.prototypes.put(version, {label: prototype}, margin)
        world.store.events.append("provisional", {"label": label, "examples": 3})


def test_a_class_with_a_prototype_is_answered_as_provisional_and_all_sums_to_one(world):
    world.publish(1)
    running = world.server()
    _with_prototype(world, "yak", "owl")
    until(lambda: running.status().provisional_classes == 2)
    answer = running.predict(1, 2, top_k=10)
    for prediction in answer.predictions:
        assert {ranked.label: ranked.provisional for ranked in prediction.labels} == {
            "cat": False,
            "dog": False,
            "owl": True,
            "yak": True,
        }
        assert total(prediction) == pytest.approx(1, abs=1e-5)
    assert running.status().classes == 2


@pytest.mark.parametrize(("margin", "first"), [(2.0, False), (-2.0, True)])
def test_the_published_margin_decides_between_prototypes_and_what_is_trained(world, margin, first):
    world.publish(1)
    running = world.server()
    _with_prototype(world, "owl")
    until(lambda: running.status().provisional_classes == 1)
    _with_prototype(world, "owl", margin=margin)
    until(lambda: all(p.labels[0].provisional == first for p in running.predict(*range(5)).predictions))


def test_an_image_near_no_class_is_marked_at_the_rate_that_the_caller_names(world):
    world.publish_with_holdout(np.stack([pixels(seed) for seed in range(20)]))
    running = world.server()
    assert not any(prediction.unknown for prediction in running.predict(*range(20)).predictions)
    answer = running.predict(*range(20), unknown_rate=0.06)
    assert sum(prediction.unknown for prediction in answer.predictions) == 10
    assert all(prediction.labels for prediction in answer.predictions)
    assert answer.false_alarm_rate == pytest.approx(0.05)
    too_strict = running.predict(*range(20), unknown_rate=0.04)
    assert not any(prediction.unknown for prediction in too_strict.predictions)
    assert too_strict.false_alarm_rate == 0
    assert running.status().unknown_rate == 0


def test_the_server_may_have_a_rate_of_its_own_and_tells_what_it_comes_to(world):
    world.publish_with_holdout(np.stack([pixels(seed) for seed in range(20)]))
    running = world.server(unknown_rate=0.06)
    assert sum(prediction.unknown for prediction in running.predict(*range(20)).predictions) == 10
    status = running.status()
    assert (status.unknown_rate, status.false_alarm_rate) == (pytest.approx(0.06), pytest.approx(0.05))


def test_a_rate_that_makes_no_sense_is_refused(world):
    world.publish(1)
    running = world.server()
    for rate in (-0.1, 0.6, float("nan")):
        failed = failure(partial(running.predict, unknown_rate=rate))
        assert failed.code == grpc.StatusCode.INVALID_ARGUMENT, rate
        assert "unknown_rate" in failed.details


def test_prototypes_of_another_feature_space_change_nothing(world):
    world.publish(1)
    running = world.server()
    _with_prototype(world, "yak", length=9)
    world.store.events.append("provisional", {"label": "yak", "examples": 3})
    _with_prototype(world, "cat")  # known: its prototype is of no use
    world.store.control.forget_class("dog")
    until(lambda: running.status().classes == 1)
    assert labels_of(running.predict()) == [["cat"]]


def test_the_next_version_learns_what_was_provisional(world):
    world.publish(1)
    running = world.server()
    _with_prototype(world, "owl")
    until(lambda: running.status().provisional_classes == 1)
    world.publish(2, Recipe(labels=("cat", "dog", "owl")))
    running.serves(2)
    prediction = running.predict(top_k=10).predictions[0]
    assert {ranked.label for ranked in prediction.labels} == {"cat", "dog", "owl"}
    assert not any(ranked.provisional for ranked in prediction.labels)


def test_every_class_forgotten_leaves_nothing_to_answer(world):
    world.publish(1)
    running = world.server()
    for label in ("cat", "dog"):
        world.store.control.forget_class(label)
    until(lambda: running.status().classes == 0)
    failed = failure(lambda: running.predict())
    assert failed.code == grpc.StatusCode.FAILED_PRECONDITION
    assert "forgotten" in failed.details


def test_calls_that_are_gathered_into_batches_are_answered_as_alone(world):
    world.publish(1, Recipe(labels=FOUR))
    running = world.server(concurrency=4)
    alone = [running.predict(seed, seed + 1, top_k=4) for seed in range(12)]
    loaded: Any = running.server.slots.take().slot.loaded
    loaded.on_gpu = True  # what decides whether calls are gathered
    with ThreadPoolExecutor(12) as pool:
        gathered = list(pool.map(lambda seed: running.predict(seed, seed + 1, top_k=4), list(range(12)) * 4))
    for seed, answer in enumerate(gathered):
        wanted = alone[seed % 12]
        assert labels_of(answer) == labels_of(wanted)
        got = [ranked.probability for prediction in answer.predictions for ranked in prediction.labels]
        before = [ranked.probability for prediction in wanted.predictions for ranked in prediction.labels]
        assert got == pytest.approx(before, abs=1e-5)
        assert answer.version == 1


def test_beyond_the_queue_calls_are_refused_at_once_with_the_time_to_retry(world):
    world.publish(1)
    running = world.server(concurrency=1, queue=1)
    blocked = Blocked(running)
    request = prediction_pb2.PredictRequest(images=[raw(pixels())])
    first = running.prediction.Predict.future(request, timeout=300)
    until(lambda: blocked.computed == 1)
    second = running.prediction.Predict.future(request)  # without a deadline
    until(lambda: running.server.predict_line.waiting == 1)
    failed = failure(lambda: running.predict())
    assert failed.code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "queue is 1; retry in" in failed.details
    trailers = failed.trailers
    assert int(trailers["retry-after-ms"]) >= 1
    blocked.gate.set()
    assert first.result().version == second.result().version == 1


def test_while_the_line_is_full_a_call_is_refused_before_its_message_has_come(world):
    world.publish(1)
    running = world.server(concurrency=1, queue=1)
    blocked, over = Blocked(running), threading.Event()
    request = prediction_pb2.PredictRequest(images=[raw(pixels())])
    under_way = [running.prediction.Predict.future(request)]
    until(lambda: blocked.computed == 1)  # one after another: together they would be one turn
    under_way.append(running.prediction.Predict.future(request))
    until(lambda: running.server.predict_line.waiting == 1)

    def upload() -> Iterator[bytes]:
        over.wait(20)
        yield from ()

    call = running.channel.stream_unary("/accrete.v1.Prediction/Predict")
    try:
        refused = failure(lambda: call(upload(), timeout=300))
    finally:
        over.set()
        blocked.gate.set()
    assert refused.code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert int(refused.trailers["retry-after-ms"]) >= 1
    assert [one.result().version for one in under_way] == [1, 1]


def test_a_call_whose_deadline_passes_in_line_is_never_computed(world):
    world.publish(1)
    running = world.server(concurrency=1, queue=4)
    blocked = Blocked(running)
    request = prediction_pb2.PredictRequest(images=[raw(pixels())])
    first = running.prediction.Predict.future(request, timeout=300)
    until(lambda: blocked.computed == 1)
    failed = failure(lambda: running.predict(timeout=0.1))
    assert failed.code == grpc.StatusCode.DEADLINE_EXCEEDED
    hung_up = running.prediction.Predict.future(request, timeout=300)
    until(lambda: running.server.predict_line.waiting == 1)
    hung_up.cancel()
    until(lambda: running.server.predict_line.waiting == 0)
    blocked.gate.set()
    assert first.result().version == 1
    assert blocked.computed == 1
