"""Health, reflection, metrics, the start and the end of a server."""

from __future__ import annotations

import json
import pathlib
import signal
import subprocess
import sys
import threading
import urllib.request
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from prometheus_client.parser import text_string_to_metric_families

from accrete.v1 import prediction_pb2, prediction_pb2_grpc, teaching_pb2
from accrete_server.grpc_server import LIVENESS
from benchmarks.waiting import until
from tests.model.artifacts import Recipe
from tests.server.world import Running, example, failure, pixels, raw

SERVICES = ("accrete.v1.Prediction", "accrete.v1.Teaching", "accrete.v1.Operation")
SERVING = health_pb2.HealthCheckResponse.SERVING


def test_a_stock_health_check_finds_the_server_and_each_service_ready_even_without_a_model(world):
    stub = health_pb2_grpc.HealthStub(world.server().channel)
    for service in ("", LIVENESS, *SERVICES):
        assert stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=300).status == SERVING
    failed = failure(lambda: stub.Check(health_pb2.HealthCheckRequest(service="accrete.v1.Nothing"), timeout=300))
    assert failed.code == grpc.StatusCode.NOT_FOUND


def test_reflection_lists_the_services_and_their_messages(world):
    database = ProtoReflectionDescriptorDatabase(world.server().channel)
    assert set(database.get_services()) >= {*SERVICES, "grpc.health.v1.Health"}
    assert database.FindFileContainingSymbol("accrete.v1.Prediction").package == "accrete.v1"


def _scrape(running: Running) -> str:
    url = f"http://127.0.0.1:{running.server.metrics_port}/metrics"
    return str(urllib.request.urlopen(url, timeout=300).read(), "utf-8")


def _samples(text: str) -> dict[Any, float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_can_be_parsed_and_hold_no_text_of_users(world):
    world.publish(1, Recipe(labels=("puma", "wolf")))
    running = world.server()
    running.predict(1, 2)
    running.predict(3)
    running.add(example("sesame", seed=1, example_id="my-own-id"), example("", seed=2), example("sesame", seed=3))
    failure(lambda: running.predict(top_k=-1))
    until(lambda: _samples(_scrape(running)).get(("accrete_pending_examples", ())) == 2)
    text = _scrape(running)
    samples = _samples(text)
    for word in ("sesame", "my-own-id", "puma", "wolf", str(world.data_dir)):
        assert word not in text
    assert all(name.startswith("accrete_") for name, _ in samples)

    def count(name: str, **labels: str) -> float:
        return samples[name, tuple(sorted(labels.items()))]

    answered = {"method": "Predict", "code": "OK", "phase": "waiting"}
    assert count("accrete_requests_total", **answered) == 2
    assert count("accrete_request_seconds_count", **answered) == 2
    assert count("accrete_requests_total", method="Predict", code="INVALID_ARGUMENT", phase="waiting") == 1
    assert (count("accrete_images_total"), count("accrete_batch_images_count")) == (3, 2)
    assert (count("accrete_live_version"), count("accrete_classes"), count("accrete_slots_resident")) == (1, 2, 1)
    assert count("accrete_examples_total", outcome="stored") == 2
    assert count("accrete_examples_total", outcome="refused") == 1
    assert count("accrete_swap_seconds_count", stage="golden") == 1
    assert count("accrete_store_up") == 1
    assert count("accrete_oldest_unlearned_seconds") >= 0
    buckets = [dict(labels) for name, labels in samples if name == "accrete_request_seconds_bucket"]
    edges = sorted(float(labels["le"]) for labels in buckets if answered.items() <= labels.items())
    assert (edges[0], edges[-2]) == (0.00025, 5.0)


def test_calls_are_counted_by_the_learners_phase(world):
    world.publish(1)
    running = world.server()
    lease = world.store.acquire_lease("me")
    world.store.control.set_phase(lease.epoch, "training", "")
    until(lambda: running.server.metrics.requests.phase == "training")
    running.predict()
    labels = (("code", "OK"), ("method", "Predict"), ("phase", "training"))
    until(lambda: _samples(_scrape(running)).get(("accrete_requests_total", labels)) == 1)


def test_stopping_finishes_calls_under_way_ends_watches_and_refuses_new_calls(world):
    world.publish(1)
    running = world.server()
    loaded = running.server.slots.live.slot.loaded
    features, gate, entered = loaded.features, threading.Event(), threading.Event()

    def slow(batch: Any) -> Any:
        entered.set()
        assert gate.wait(20)
        return features(batch)

    loaded.features = slow
    request = prediction_pb2.PredictRequest(images=[raw(pixels())])
    under_way = running.prediction.Predict.future(request, timeout=300)
    watch = running.teaching.Watch(teaching_pb2.WatchRequest(), timeout=300)
    watch.initial_metadata()
    health = health_pb2_grpc.HealthStub(running.channel).Watch(health_pb2.HealthCheckRequest(), timeout=300)
    assert next(health).status == SERVING
    request_of_liveness = health_pb2.HealthCheckRequest(service=LIVENESS)
    alive = health_pb2_grpc.HealthStub(running.channel).Watch(request_of_liveness, timeout=300)
    assert next(alive).status == SERVING
    entered.wait(20)
    stopping = threading.Thread(target=running.server.stop)
    stopping.start()
    assert next(health).status == health_pb2.HealthCheckResponse.NOT_SERVING
    ended = failure(lambda: next(watch))
    assert ended.code == grpc.StatusCode.UNAVAILABLE
    with grpc.insecure_channel(running.server.address) as channel:
        stub = prediction_pb2_grpc.PredictionStub(channel)
        assert failure(lambda: stub.Predict(request, timeout=300)).code == grpc.StatusCode.UNAVAILABLE
    gate.set()
    assert under_way.result().version == 1
    stopping.join(20)
    assert not stopping.is_alive()
    # A server that drains is as much alive as before, and is not to be restarted for it.
    assert failure(lambda: next(alive)).code != grpc.StatusCode.DEADLINE_EXCEEDED
    world.forget(running)


SERVE = """
import pathlib, sys
from accrete_model.config import EngineConfig
from accrete_model.input_spec import InputSpec
from accrete_server.app import serve
from accrete_server.config import ServerConfig
from accrete_server.settings import ServerSettings
from accrete_storage.config import StoreConfig
serve(
    ServerSettings(
        data_dir=pathlib.Path(sys.argv[1]), spec=InputSpec((4, 4, 3), "uint8"), method="finetune",
        server=ServerConfig(port=0, metrics_port=0), engine=EngineConfig(device="cpu"),
        store=StoreConfig(url=sys.argv[2], prefix=sys.argv[3]),
    )
)
assert "torch" not in sys.modules
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_process_in_order_and_torch_was_never_imported(world, number):
    world.publish(1)
    arguments = [str(world.data_dir), world.config.url, world.config.prefix]
    process = subprocess.Popen([sys.executable, "-c", SERVE, *arguments])
    try:
        address = world.data_dir / "server.json"
        until(lambda: address.exists() or process.poll() is not None)
        with grpc.insecure_channel(json.loads(address.read_text())["address"]) as channel:
            request = prediction_pb2.PredictRequest(images=[raw(pixels())])
            stub = prediction_pb2_grpc.PredictionStub(channel)
            assert stub.Predict(request, timeout=300, wait_for_ready=True).version == 1
        process.send_signal(number)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
    assert not pathlib.Path(address).exists()


def test_a_call_from_many_threads_is_answered_as_one_from_one(world):
    world.publish(1)
    running = world.server()
    wanted = [running.predict(seed).predictions for seed in range(8)]
    wrong = []

    def ask(seed: int) -> None:
        for _ in range(20):
            if running.predict(seed).predictions != wanted[seed]:
                wrong.append(seed)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert np.isfinite(wanted[0][0].labels[0].probability)
