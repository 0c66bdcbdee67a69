"""A node from start to end, as its users meet it."""

from __future__ import annotations

import copy
import os
import urllib.request

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from accrete_node.up import addresses
from benchmarks.node import Node, descendants, runs
from benchmarks.waiting import until
from tests.support.priority import FULL_PRIORITY

NO_TEMPORARY_FOLDER = """
import tempfile

def none():
    raise FileNotFoundError("No usable temporary directory found")

tempfile._get_default_tempdir = none
"""
AWKWARD_NAME = "a#b?c%20 \"d'\\\t\n[ü]"


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory, digits):
    """A node in a folder of an awkward name, without any temporary one, that has learned 0 and 1."""
    folder = tmp_path_factory.mktemp("node")
    (folder / "sitecustomize.py").write_text(NO_TEMPORARY_FOLDER)
    path = os.pathsep.join([str(folder), os.environ["PYTHONPATH"]])
    awkward = folder / AWKWARD_NAME
    awkward.mkdir()
    node = Node(awkward, environment=FULL_PRIORITY | {"PYTHONPATH": path})
    node.start()
    try:
        with node.ready() as client:
            ids = client.add_examples((label, image) for label in "01" for image in digits[label][:40]).ids
            assert client.wait_learned(ids, timeout=300) == 1
        yield node
    finally:
        node.stop()
        print(node.log()[-6000:])


def test_a_folder_of_any_name_is_learned_in_and_no_temporary_one_is_needed(taught, digits):
    with taught.client() as client:
        assert client.predict(digits["0"][50]).label in "01"
    assert "No usable temporary directory" not in taught.log()


def test_metrics_of_both_processes_tell_of_a_step(taught):
    server, learner = addresses(taught.data_dir), addresses(taught.data_dir, "learner")
    assert server is not None
    assert learner is not None
    until(lambda: "accrete_live_version 1.0" in _metrics(server["metrics"]))
    until(lambda: "accrete_steps_total" in _metrics(learner["metrics"]))


def test_a_second_node_on_the_same_data_is_refused_and_the_first_goes_on(taught):
    other = copy.copy(taught)
    other.start()
    assert other.process.wait(300) == 2
    assert "another process serves the data directory" in taught.log()
    with taught.client() as client:
        assert client.status().store_alive


def test_stock_health_and_reflection_clients_are_answered(taught):
    with grpc.insecure_channel(taught.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", "accrete.v1.Prediction", "accrete.v1.Teaching", "accrete.v1.Operation"):
            answer = health.Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        services = set(ProtoReflectionDescriptorDatabase(channel).get_services())
    assert {"accrete.v1.Prediction", "accrete.v1.Teaching", "accrete.v1.Operation", "grpc.health.v1.Health"} <= services


def test_the_same_version_is_served_after_an_orderly_end_and_a_new_start(taught, digits):
    with taught.client() as client:
        before = client.predict(digits["0"][50], features=True)
        # Acknowledged, and with nothing to start a step: it must still be there afterwards.
        waiting = client.add_examples(("7", image) for image in digits["7"][:9]).ids
    below = descendants(taught.process.pid)
    taught.stop()
    assert taught.process.returncode == 0
    assert not [line for pid, line in below.items() if runs(pid)]

    taught.start()
    with taught.ready() as client:
        until(lambda: client.status().version == 1)
        after = client.predict(digits["0"][50], features=True)
        assert after.version == before.version
        assert after.label == before.label
        assert (after.features == before.features).all()
        assert client.status().pending == len(waiting)


def _metrics(address: str) -> str:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=300) as answer:
        text: str = answer.read().decode()
        return text


def test_a_killed_supervisor_takes_everything_with_it(make_node):
    node = make_node()
    with node.ready():
        pass
    until(lambda: node.pid("learner"))
    below = descendants(node.process.pid)
    assert len(below) >= 3
    os.kill(node.process.pid, 9)
    node.process.wait()
    until(lambda: not any(runs(pid) for pid in below), what="the end of all processes")
