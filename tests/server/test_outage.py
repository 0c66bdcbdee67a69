"""The store gone: Predict goes on, nothing is acknowledged, and all is well when it is back."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Callable

import grpc
import pytest

from accrete.v1 import operation_pb2, prediction_pb2, prediction_pb2_grpc, teaching_pb2
from accrete_storage.embedded.server import socket_url
from accrete_storage.errors import StoreMisconfigured
from accrete_storage.redis.database import Database
from benchmarks.waiting import until
from tests.model.artifacts import Recipe
from tests.server.world import Running, example, failure, labels_of, pixels, raw

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


def _code(call: Callable[[], object]) -> grpc.StatusCode:
    failed = failure(lambda: call())
    return failed.code


@pytest.mark.own_store
def test_without_the_store_predict_goes_on_and_nothing_is_acknowledged(world):
    world.publish(1)
    running = world.server()
    before = running.predict(1, 2)
    world.kill_store()
    for _ in range(5):
        assert running.predict(1, 2).predictions == before.predictions
    assert _code(lambda: running.add(example(seed=1))) == UNAVAILABLE
    operation = running.operation
    assert _code(lambda: operation.ListVersions(operation_pb2.ListVersionsRequest(), timeout=300)) == UNAVAILABLE
    assert _code(lambda: operation.PauseLearning(operation_pb2.PauseLearningRequest(), timeout=300)) == UNAVAILABLE
    wait = teaching_pb2.WaitLearnedRequest(ids=["x"])
    assert _code(lambda: running.teaching.WaitLearned(wait, timeout=300)) == UNAVAILABLE
    status = running.status()
    assert (status.store_alive, status.version, status.active_version, status.classes) == (False, 1, 0, 2)


@pytest.mark.own_store
def test_when_the_store_is_back_so_is_teaching_and_following(world):
    world.publish(1)
    running = world.server()
    watch = running.teaching.Watch(teaching_pb2.WatchRequest(), timeout=300)
    watch.initial_metadata()
    world.kill_store()
    until(lambda: not running.status().store_alive)
    world.start_store()
    until(lambda: running.status().store_alive)
    assert running.add(example(seed=1))[0].outcome == teaching_pb2.ExampleResult.STORED
    world.publish(2)
    running.serves(2)
    kinds = [next(watch).WhichOneof("what") for _ in range(2)]
    assert kinds == ["committed", "activated"]


@pytest.mark.own_store
def test_a_server_started_without_the_store_serves_what_was_served_last(world):
    world.publish(1)
    world.publish(2, Recipe(labels=("cat", "dog", "owl")))
    running = world.server()
    running.operation.ForgetClass(operation_pb2.ForgetClassRequest(label="dog"), timeout=300)
    before = running.predict(1)
    last_served = world.data_dir / "active.json"
    until(lambda: json.loads(last_served.read_text())["masked"] == ["dog"])
    world.stop(running)
    world.kill_store()
    again = world.server()
    assert again.predict(1).version == 2
    assert again.predict(1).predictions == before.predictions
    assert labels_of(again.predict(1))[0] != []
    assert _code(lambda: again.add(example(seed=1))) == UNAVAILABLE
    world.start_store()
    until(lambda: again.status().store_alive)
    world.publish(3)
    again.serves(3)


@pytest.mark.own_store
def test_without_the_store_a_damaged_version_gives_way_to_the_one_before_without_what_was_forgotten_since(world):
    names = ("cat", "dog", "owl")
    world.publish(1, Recipe(labels=names))
    running = world.server()
    world.publish(2, Recipe(labels=names))
    running.serves(2)
    running.operation.ForgetClass(operation_pb2.ForgetClassRequest(label="dog"), timeout=300)
    world.publish(3, Recipe(labels=("cat", "owl")))
    running.serves(3)
    until(lambda: json.loads((world.data_dir / "active.json").read_text())["version"] == 3)
    world.stop(running)
    world.kill_store()
    for version in (2, 3):
        (world.artifacts.path(version) / "head.safetensors").write_bytes(b"")
    answer = world.server().predict(1, top_k=10)
    assert answer.version == 1
    assert set(labels_of(answer)[0]) == {"cat", "owl"}


@pytest.mark.own_store
def test_a_server_started_without_the_store_and_without_memory_waits_for_both(world):
    world.publish(1)
    world.kill_store()
    running = world.server()
    assert _code(running.predict) == grpc.StatusCode.FAILED_PRECONDITION
    world.start_store()
    running.serves(1)


def test_memory_that_cannot_be_read_is_no_reason_not_to_start(world):
    (world.data_dir / "active.json").write_text("{")
    world.publish(1)
    assert world.server().predict().version == 1


def test_a_store_of_another_model_is_refused_at_the_start(world):
    world.stop(world.server())
    with pytest.raises(StoreMisconfigured, match="model input"):
        world.server(Recipe(shape=(6,)))


@pytest.mark.own_store
def test_a_store_that_does_not_keep_its_promise_is_refused_at_the_start(world):
    Database(socket_url(world.data_dir), timeout_s=1).client.config_set("appendonly", "no")
    with pytest.raises(StoreMisconfigured):
        world.server()


def test_the_address_is_written_for_others_to_find_and_removed_at_the_end(world):
    running = world.server()
    written = json.loads((world.data_dir / "server.json").read_text())
    assert written["address"] == running.server.address
    assert written["metrics"].endswith(f":{running.server.metrics_port}")
    world.stop(running)
    assert not (world.data_dir / "server.json").exists()


def test_a_port_that_is_taken_is_an_error_at_the_start(world):
    running = world.server()
    with pytest.raises(OSError, match=rf"cannot listen on 127.0.0.1:{running.server.port}: .*server\.port"):
        world.server(port=running.server.port)
    with pytest.raises(OSError, match=rf"/metrics cannot listen on .*:{running.server.metrics_port}: .*metrics_port"):
        world.server(metrics_port=running.server.metrics_port)
    assert running.status().store_alive


def test_servers_that_share_a_port_share_its_connections_and_one_may_go(world):
    world.publish(1)
    first = world.server(share_port=True)
    second = world.server(share_port=True, port=first.server.port)
    with pytest.raises(OSError, match="cannot listen"):
        world.server(port=first.server.port)
    asked = [_ask_anew(first.server.address) for _ in range(40)]
    assert asked == [1] * 40
    assert _predictions(first) + _predictions(second) == 40
    assert _predictions(first) * _predictions(second) > 0  # by chance zero once in 2^39 runs
    world.stop(first)
    assert [_ask_anew(second.server.address) for _ in range(5)] == [1] * 5


def _ask_anew(address: str) -> int:
    """The version that answers on a connection of its own."""
    with grpc.insecure_channel(address, options=(("grpc.use_local_subchannel_pool", 1),)) as channel:
        request = prediction_pb2.PredictRequest(images=[raw(pixels(0))])
        return int(prediction_pb2_grpc.PredictionStub(channel).Predict(request, timeout=300).version)


def _predictions(running: Running) -> int:
    page = urllib.request.urlopen(f"http://127.0.0.1:{running.server.metrics_port}/metrics").read().decode()
    counted = re.search(r"accrete_images_total (\d+)", page)
    return int(counted[1]) if counted else 0
