"""A node from start to end, as its users meet it."""

from __future__ import annotations

import copy
import os
import urllib.request

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from benchmarks.node import descendants, runs
from benchmarks.waiting import until


def test_the_same_version_is_served_after_an_orderly_end_and_a_new_start(make_node, digits):
    node = make_node()
    with node.client() as client:
        client.wait_ready(300)
        ids = client.add_examples((label, image) for label in "01" for image in digits[label][:40]).ids
        assert client.wait_learned(ids, timeout=300) == 1
        before = client.predict(digits["0"][50], features=True)
        # Acknowledged, and with nothing to start a step: it must still be there afterwards.
        waiting = client.add_examples(("7", image) for image in digits["7"][:9]).ids
    below = descendants(node.process.pid)
    node.stop()
    assert node.process.returncode == 0
    assert not [line for pid, line in below.items() if runs(pid)]

    node.start()
    with node.client() as client:
        client.wait_ready(300)
        until(lambda: client.status().version == 1)
        after = client.predict(digits["0"][50], features=True)
        assert after.version == before.version
        assert after.label == before.label
        assert (after.features == before.features).all()
        assert client.status().pending == len(waiting)


NO_TEMPORARY_FOLDER = """
import tempfile

def none():
    raise FileNotFoundError("No usable temporary directory found")

tempfile._get_default_tempdir = none
"""


def test_a_folder_of_any_name_is_learned_in_and_no_temporary_one_is_needed(make_node, digits, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(NO_TEMPORARY_FOLDER)
    path = os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]])
    node = make_node(name="a#b?c%20 \"d'\\\t\n[ü]", environment={"PYTHONPATH": path})
    with node.client() as client:
        client.wait_ready(300)
        ids = client.add_examples((label, image) for label in "01" for image in digits[label][:40]).ids
        assert client.wait_learned(ids, timeout=300) == 1
        assert client.predict(digits["0"][50]).label in "01"
    assert "No usable temporary directory" not in node.log()


def test_a_second_node_on_the_same_data_is_refused_and_the_first_goes_on(make_node):
    node = make_node()
    with node.client() as client:
        client.wait_ready(300)
        other = copy.copy(node)
        other.start()
        assert other.process.wait(60) == 2
        assert "another process serves the data directory" in node.log()
        assert client.status().store_alive


def test_stock_health_and_reflection_clients_are_answered(make_node):
    node = make_node()
    with node.client() as client:
        client.wait_ready(300)
    with grpc.insecure_channel(node.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", "accrete.v1.Prediction", "accrete.v1.Teaching", "accrete.v1.Operation"):
            answer = health.Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        services = set(ProtoReflectionDescriptorDatabase(channel).get_services())
    assert {"accrete.v1.Prediction", "accrete.v1.Teaching", "accrete.v1.Operation", "grpc.health.v1.Health"} <= services


def test_metrics_of_both_processes_tell_of_a_step(make_node, digits):
    node = make_node()
    with node.client() as client:
        client.wait_ready(300)
        ids = client.add_examples((label, image) for label in "01" for image in digits[label][:40]).ids
        client.wait_learned(ids, timeout=300)
        client.predict(digits["0"][0])
    from accrete_node.up import addresses

    server, learner = addresses(node.data_dir), addresses(node.data_dir, "learner")
    assert server is not None
    assert learner is not None
    assert "accrete_live_version 1.0" in _metrics(server["metrics"])
    until(lambda: "accrete_steps_total" in _metrics(learner["metrics"]))


def _metrics(address: str) -> str:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=300) as answer:
        text: str = answer.read().decode()
        return text


def test_a_killed_supervisor_takes_everything_with_it(make_node):
    node = make_node()
    with node.client() as client:
        client.wait_ready(300)
    until(lambda: node.pid("learner"))
    below = descendants(node.process.pid)
    assert len(below) >= 3
    os.kill(node.process.pid, 9)
    node.process.wait()
    until(lambda: not any(runs(pid) for pid in below), what="the end of all processes")
