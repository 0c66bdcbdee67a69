"""Operation: status, lists, control of the learner, deletion."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import math
import shutil
import socket

import grpc
import pytest

import accrete
from accrete.v1 import operation_pb2, types_pb2
from accrete_storage.config import TeachingConfig
from accrete_storage.versions.commit import Reject
from benchmarks.waiting import until
from tests.model.artifacts import Recipe
from tests.server.world import Running, example, failure, ids_of, labels_of, pixels


def _classes(running: Running) -> dict[str, operation_pb2.ClassInfo]:
    answer = running.operation.ListClasses(operation_pb2.ListClassesRequest(), timeout=300)
    return {info.label: info for info in answer.classes}


def test_the_status_of_a_fresh_server(world):
    status = world.server().status()
    assert (status.version, status.active_version, status.classes, status.pending) == (0, 0, 0, 0)
    assert (status.store_alive, status.learner_alive, status.paused, status.pinned) == (True, False, False, False)
    assert status.phase == types_pb2.WAITING
    assert status.release == importlib.metadata.version("accrete")
    assert status.store.startswith(("valkey ", "redis "))
    assert (list(status.input_shape), status.method) == ([4, 4, 3], "finetune")


def test_the_status_names_the_node_and_its_data(world):
    status = world.server().status()
    assert status.node == f"{socket.gethostname()}/{world.data_dir.name}"
    assert status.data_dir == str(world.data_dir.resolve())
    assert world.server(node="shöp").status().node == "shöp"


def test_a_call_for_another_node_is_refused_and_changes_nothing(world):
    running = world.server(node="shöp")
    told = "node: this is 'shöp', and 'other' was asked for; nothing was done"
    with accrete.Client(running.server.address, node="other") as client:
        for call in (
            client.status,
            client.pause,
            lambda: client.add_examples([("cat", pixels())]),
            lambda: list(client.stream_examples([("cat", pixels())])),
            lambda: next(iter(client.watch(timeout=1))),
            lambda: client.wait_ready(1),
        ):
            with pytest.raises(accrete.InvalidInput, match=told):
                call()
    assert (running.status().pending, running.status().paused) == (0, False)
    with accrete.Client(running.server.address, node="shöp") as client:
        assert client.add_examples([("cat", pixels())]).stored == 1


def test_the_status_tells_how_far_a_step_is_while_it_runs(world):
    running = world.server()
    lease = world.store.acquire_lease("me")
    world.store.control.set_phase(lease.epoch, "training", "")
    body = {"version": 1, "stage": "train", "done": 1, "total": 4, "loss": 0.5}
    world.store.events.append("progress", body)
    until(lambda: running.status().HasField("progress"))
    found = running.status().progress
    assert (found.version, found.stage, found.done, found.total, found.loss) == (1, "train", 1, 4, 0.5)
    world.store.control.set_phase(lease.epoch, "gating", "")
    assert not running.status().HasField("progress")


def test_the_status_of_one_that_has_learned(world):
    world.publish(1)
    running = world.server()
    running.add(example(seed=1), example("owl", seed=2))
    lease = world.store.acquire_lease("me")
    world.store.control.set_phase(lease.epoch, "training", "2 new classes")
    status = running.status()
    assert (status.version, status.active_version, status.classes) == (1, 1, 2)
    assert status.engine == "onnxruntime CPUExecutionProvider"
    assert (status.pending, status.learner_alive, status.phase) == (2, True, types_pb2.TRAINING)
    assert status.oldest_pending_ms >= 0
    assert status.exemplar_budget == 40


def test_the_budget_told_is_that_of_the_newest_version_whichever_is_live(world):
    world.publish(1)
    running = world.server()
    world.publish(2, Recipe(labels=("cat", "dog", "owl")))
    running.operation.ActivateVersion(operation_pb2.ActivateVersionRequest(version=1), timeout=300)
    until(lambda: (running.status().classes, running.status().exemplar_budget) == (2, 60))
    running.operation.ForgetClass(operation_pb2.ForgetClassRequest(label="cat"), timeout=300)
    assert (running.status().classes, running.status().exemplar_budget) == (1, 40)


def test_classes_are_listed_with_their_state_learned_ones_first(world):
    world.publish(1, Recipe(labels=("dog", "cat")))
    running = world.server()
    running.add(example("ant", seed=1), example("ant", seed=2), example("cat", seed=3))
    world.store.control.forget_class("dog")
    answer = _classes(running)
    assert list(answer) == ["dog", "cat", "ant"]
    assert [info.state for info in answer.values()] in (
        [types_pb2.FORGOTTEN, types_pb2.LEARNED, types_pb2.PENDING],
        [types_pb2.LEARNED, types_pb2.LEARNED, types_pb2.PENDING],  # before this server has heard of it
    )
    assert (answer["cat"].since_version, answer["cat"].pending) == (1, 1)
    assert (answer["ant"].since_version, answer["ant"].pending) == (0, 2)


def test_versions_are_listed_newest_first(world):
    world.publish(1, Recipe(labels=("cat",)))
    world.publish(2)
    running = world.server()
    running.add(example("cat", 1))
    lease = world.store.acquire_lease("me")
    gate = {"old_before": 0.9, "old_after": None, "max_old_drop": 0.1, "min_new": 0.5}
    rejected = dataclasses.replace(world.record(3, Recipe(), "", {}, "rejected"), gate=gate)
    event = {"version": 3, "reason": "worse on old classes", "accuracy": rejected.accuracy}
    world.store.reject(Reject(epoch=lease.epoch, step_id="r", record=rejected, quarantined={"cat": 1}, event=event))
    versions = running.operation.ListVersions(operation_pb2.ListVersionsRequest(), timeout=300).versions
    assert [(info.version, info.active, info.state) for info in versions] == [
        (3, False, operation_pb2.VersionInfo.REJECTED),
        (2, True, operation_pb2.VersionInfo.READY),
        (1, False, operation_pb2.VersionInfo.READY),
    ]
    held = versions[0].gate
    assert (held.old_before, math.isnan(held.old_after), held.max_old_drop, held.min_new) == (0.9, True, 0.1, 0.5)
    assert not versions[1].HasField("gate")
    assert (list(versions[2].labels), versions[1].accuracy.all, len(versions[1].digest)) == (["cat"], 0.9, 64)
    failed = failure(
        lambda: running.operation.ActivateVersion(operation_pb2.ActivateVersionRequest(version=3), timeout=300)
    )
    assert failed.code == grpc.StatusCode.FAILED_PRECONDITION
    assert "rejected" in failed.details
    assert list(running.status().held_labels) == ["cat"]


def test_a_version_is_given_up_only_when_its_files_are_damaged(world):
    world.publish(1, Recipe(labels=("cat",)))
    world.publish(2, Recipe(labels=("cat", "dog")))
    running = world.server()

    def discard(version: int) -> operation_pb2.DiscardVersionResponse:
        request = operation_pb2.DiscardVersionRequest(version=version)
        answer: operation_pb2.DiscardVersionResponse = running.operation.DiscardVersion(request, timeout=300)
        return answer

    failed = failure(lambda: discard(2))
    assert (failed.code, "its files are whole" in failed.details) == (grpc.StatusCode.FAILED_PRECONDITION, True)
    assert failure(lambda: discard(7)).code == grpc.StatusCode.NOT_FOUND
    (world.artifacts.path(2) / "head.safetensors").write_bytes(b"")
    assert (discard(2).base, running.predict().version) == (1, 2), "what is in memory goes on"
    assert failure(lambda: discard(2)).code == grpc.StatusCode.FAILED_PRECONDITION
    given_up = running.operation.ListVersions(operation_pb2.ListVersionsRequest(), timeout=300).versions[0]
    assert given_up.state == operation_pb2.VersionInfo.RETIRED
    assert given_up.reason.startswith("v000002/head.safetensors has 0 bytes"), "no path of the server's"
    shutil.rmtree(world.artifacts.path(1))
    assert discard(1).base == 0
    assert world.store.registry.latest_ready() is None


def test_what_is_set_aside_is_listed_with_its_reason_tried_again_and_dropped(world):
    running = world.server()
    running.add(*(example("cat", seed) for seed in range(3)), *(example("dog", seed) for seed in range(2)))
    lease = world.store.acquire_lease("me")
    world.store.quarantine.add(lease.epoch, {"cat": 3, "dog": 2}, {"reason": "out of memory", "attempt": 3})
    call = running.operation

    def quarantine() -> list[tuple[str, int, int, str]]:
        answer = call.ListHeld(operation_pb2.ListHeldRequest(), timeout=300)
        return [(one.label, one.pending, one.attempts, one.reason) for one in answer.labels]

    assert quarantine() == [("cat", 3, 3, "out of memory"), ("dog", 2, 3, "out of memory")]
    assert call.RetryHeld(operation_pb2.RetryHeldRequest(label="cat"), timeout=300).pending == 3
    assert call.DropHeld(operation_pb2.DropHeldRequest(label="dog"), timeout=300).dropped == 2
    assert quarantine() == []
    assert running.status().pending == 3
    failed = failure(lambda: call.DropHeld(operation_pb2.DropHeldRequest(label="cat"), timeout=300))
    assert (failed.code, failed.details) == (grpc.StatusCode.NOT_FOUND, "no such label set aside: cat")


def test_a_new_label_waits_for_an_operator_where_that_is_asked_for(world):
    world.publish(1, Recipe(labels=("dog", "cat")))
    running = world.server(teaching=TeachingConfig(approve_new_labels=True))
    running.add(example("cat", 1), example("owl", 2), example("owl", 3))
    call = running.operation
    (waiting,) = call.ListHeld(operation_pb2.ListHeldRequest(), timeout=300).labels
    assert (waiting.label, waiting.pending, waiting.awaiting_approval) == ("owl", 2, True)
    assert waiting.reason == "the label is new and awaits approval"
    assert list(running.status().held_labels) == ["owl"]
    assert call.ApproveLabel(operation_pb2.ApproveLabelRequest(label="owl"), timeout=300).pending == 2
    failed = failure(lambda: call.ApproveLabel(operation_pb2.ApproveLabelRequest(label="owl"), timeout=300))
    assert (failed.code, failed.details) == (grpc.StatusCode.NOT_FOUND, "no such label awaiting approval: owl")


def test_a_step_is_asked_for_only_when_there_is_something_to_learn(world):
    running = world.server()
    trigger = running.operation.TriggerStep
    failed = failure(lambda: trigger(operation_pb2.TriggerStepRequest(), timeout=300))
    assert failed.code == grpc.StatusCode.FAILED_PRECONDITION
    assert "no example is pending" in failed.details
    running.add(example(seed=1))
    assert trigger(operation_pb2.TriggerStepRequest(), timeout=300).pending == 1
    assert world.store.control.take_step_request()


def test_a_deep_step_is_asked_for_where_there_is_one(world):
    request = operation_pb2.TriggerStepRequest(deep=True)
    refusing = world.server(deep_refusal="model.backbone = 'identity': no")
    failed = failure(lambda: refusing.operation.TriggerStep(request, timeout=300))
    assert (failed.code, failed.details) == (grpc.StatusCode.FAILED_PRECONDITION, "model.backbone = 'identity': no")
    running = world.server()
    failed = failure(lambda: running.operation.TriggerStep(request, timeout=300))
    assert failed.code == grpc.StatusCode.FAILED_PRECONDITION
    assert "nothing is learned yet" in failed.details
    assert not world.store.deep.take_request()
    world.publish(1, Recipe(labels=("dog", "cat")))
    running.operation.TriggerStep(request, timeout=300)
    assert world.store.deep.take_request()
    assert not world.store.control.take_step_request(), "it is another step"
    assert running.status().deep == ""
    world.store.deep.tell("training, epoch 1 of about 3")
    assert running.status().deep == "training, epoch 1 of about 3"


def test_learning_is_paused_and_resumed(world):
    running = world.server()
    running.add(example(seed=1))
    running.operation.PauseLearning(operation_pb2.PauseLearningRequest(), timeout=300)
    assert world.store.control.paused()
    assert running.status().paused
    failed = failure(lambda: running.operation.TriggerStep(operation_pb2.TriggerStepRequest(), timeout=300))
    assert failed.code == grpc.StatusCode.FAILED_PRECONDITION
    assert "paused" in failed.details
    running.operation.ResumeLearning(operation_pb2.ResumeLearningRequest(), timeout=300)
    assert not running.status().paused


def test_examples_are_deleted_by_id(world):
    running = world.server()
    ids = ids_of(running.add(example(seed=1), example(seed=2)))
    request = operation_pb2.DeleteExamplesRequest(ids=[ids[0], "nobody"])
    answer = running.operation.DeleteExamples(request, timeout=300)
    assert (answer.deleted, list(answer.unknown)) == (1, ["nobody"])
    assert running.status().pending == 1


def test_a_forgotten_class_is_gone_from_answers_when_the_call_returns(world):
    world.publish(1)
    running = world.server()
    running.add(example(seed=1), example(seed=2))
    answer = running.operation.ForgetClass(operation_pb2.ForgetClassRequest(label="cat"), timeout=300)
    assert (answer.pending_deleted, answer.exemplars_deleted, answer.holdout_deleted) == (2, 0, 0)
    assert labels_of(running.predict(1, 2)) == [["dog"], ["dog"]]
    assert _classes(running)["cat"].state == types_pb2.FORGOTTEN
    assert (running.status().classes, running.status().pending) == (1, 0)


def test_a_forgotten_class_taught_again_is_pending(world):
    world.publish(1)
    running = world.server()
    running.operation.ForgetClass(operation_pb2.ForgetClassRequest(label="cat"), timeout=300)
    running.add(example("cat", seed=1))
    assert _classes(running)["cat"].state == types_pb2.PENDING
