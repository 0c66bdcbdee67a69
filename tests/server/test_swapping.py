"""Swaps under load, broken candidates, roll-backs."""

from __future__ import annotations

import json
import pathlib
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import grpc
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from accrete.v1 import operation_pb2, prediction_pb2
from accrete_model.config import EngineConfig
from accrete_model.loaded_version import LoadedVersion, load
from accrete_server.versions.loading import Loader
from accrete_storage.versions.registry import Registry
from benchmarks.waiting import until
from tests.model.artifacts import Recipe
from tests.server.world import Running, World, failure, pixels, raw

BROKEN = "accrete_broken_candidates_total"


def _activate(running: Running, version: int = 0, *, unpin: bool = False) -> operation_pb2.ActivateVersionResponse:
    request = operation_pb2.ActivateVersionRequest(version=version, unpin=unpin)
    return running.operation.ActivateVersion(request, timeout=300)


def _expected(world: World, version: int, seed: int) -> dict[str, float]:
    loaded = load(world.artifacts.path(version), version, EngineConfig(device="cpu"))
    classifier = loaded.classifier()
    probabilities = classifier(loaded.features(pixels(seed)[None]))
    return dict(zip(classifier.labels, probabilities[0].tolist(), strict=True))


class _Load:
    """Callers that ask without a pause and keep every answer."""

    def __init__(self, running: Running, callers: int) -> None:
        self.answers: list[prediction_pb2.PredictResponse] = []
        self.failures: list[grpc.RpcError] = []
        self._running = running
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(callers)
        for _ in range(callers):
            self._pool.submit(self._ask)

    def _ask(self) -> None:
        request = prediction_pb2.PredictRequest(images=[raw(pixels(0)), raw(pixels(1))], top_k=10)
        while not self._stop.is_set():
            try:
                self.answers.append(self._running.prediction.Predict(request, timeout=300))
            except grpc.RpcError as error:
                self.failures.append(error)

    def stop(self) -> None:
        self._stop.set()
        self._pool.shutdown()


def test_swaps_under_load_fail_no_call_and_mix_no_versions(world):
    names = ("cat", "dog", "owl", "yak", "emu", "ant", "bee", "cow")
    world.publish(1, Recipe(labels=names[:2]))
    running = world.server()
    load_on = _Load(running, 3)
    for version in range(2, 9):
        world.publish(version, Recipe(labels=names[:version], seed=version))
        running.serves(version)
        answered = len(load_on.answers)
        until(lambda: len(load_on.answers) > answered + 10)  # noqa: B023
    load_on.stop()
    assert not load_on.failures
    expected = {(version, seed): _expected(world, version, seed) for version in range(1, 9) for seed in (0, 1)}
    assert {answer.version for answer in load_on.answers} >= set(range(2, 9))
    for answer in load_on.answers:
        for seed, prediction in enumerate(answer.predictions):
            got = {ranked.label: ranked.probability for ranked in prediction.labels}
            assert got == pytest.approx(expected[answer.version, seed], abs=1e-5)
    until(lambda: running.server.slots.resident == 1)


def test_a_version_never_goes_back_on_its_own(world):
    world.publish(1)
    running = world.server()
    load_on = _Load(running, 1)
    for version in (2, 3):
        world.publish(version)
        running.serves(version)
    load_on.stop()
    versions = [answer.version for answer in load_on.answers]
    assert versions == sorted(versions)


def _held_up(monkeypatch: pytest.MonkeyPatch, version: int) -> tuple[threading.Event, threading.Event]:
    """Holds the loading of a version up at its end, as a slow disk does: (it got there, it may go on)."""
    there, go_on = threading.Event(), threading.Event()
    load = Loader.load

    def slow(self: Loader, number: int, digest: str | None) -> LoadedVersion:
        loaded = load(self, number, digest)
        if number == version:
            there.set()
            assert go_on.wait(300)
        return loaded

    monkeypatch.setattr(Loader, "load", slow)
    return there, go_on


def test_a_version_that_was_being_loaded_does_not_go_live_after_another_was_activated(world, monkeypatch, caplog):
    caplog.set_level("INFO")
    world.publish(1)
    running = world.server()
    there, go_on = _held_up(monkeypatch, 2)
    world.publish(2)
    assert there.wait(300)
    _activate(running, 1)
    go_on.set()
    until(lambda: [record.version for record in caplog.records if record.message == "version.passed_over"] == [2])
    assert running.status().version == 1
    assert running.server.metrics.registry.get_sample_value("accrete_swaps_total") == 1


def test_a_version_that_a_newer_one_followed_while_it_was_loaded_goes_live(world, monkeypatch, caplog):
    caplog.set_level("INFO")
    world.publish(1)
    running = world.server()
    there, go_on = _held_up(monkeypatch, 2)
    world.publish(2)
    assert there.wait(300)
    world.publish(3)
    go_on.set()
    running.serves(3)
    assert [record.version for record in caplog.records if record.message == "version.live"] == [1, 2, 3]


def _remove(path: pathlib.Path) -> None:
    (path / "head.safetensors").unlink()


def _flip(path: pathlib.Path) -> None:
    data = bytearray((path / "graph.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (path / "graph.onnx").write_bytes(data)


def _no_manifest(path: pathlib.Path) -> None:
    (path / "manifest.json").unlink()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [(_remove, "head.safetensors"), (_flip, "graph.onnx"), (_no_manifest, "manifest.json")],
)
def test_a_candidate_with_damaged_files_is_reported_and_the_old_version_serves_on(world, damage, reason):
    world.publish(1)
    running = world.server()
    world.publish(2, break_it=damage)
    _stays_on_1(world, running, "verify", reason)


def _reshape(path: pathlib.Path) -> None:
    card = json.loads((path / "model.json").read_text())
    (path / "model.json").write_text(json.dumps(card | {"labels": ["cat"]}))


def _poison(path: pathlib.Path) -> None:
    tensors = load_file(path / "head.safetensors")
    tensors["weight"][0, 0] = np.nan
    save_file(tensors, path / "head.safetensors")


def _other_golden(path: pathlib.Path) -> None:
    tensors = load_file(path / "golden.safetensors")
    tensors["features"] += 1
    save_file(tensors, path / "golden.safetensors")


@pytest.mark.parametrize(
    ("change", "stage", "reason"),
    [(_reshape, "read", "weight"), (_poison, "read", "not finite"), (_other_golden, "golden", "features differ")],
)
def test_a_candidate_that_is_wrong_in_itself_is_reported_and_the_old_version_serves_on(world, change, stage, reason):
    world.publish(1)
    running = world.server()
    world.publish(2, spoil=change)
    _stays_on_1(world, running, stage, reason)


def test_a_candidate_of_another_input_is_reported_and_the_old_version_serves_on(world):
    world.publish(1)
    running = world.server()
    world.publish(2, Recipe(shape=(5, 4, 3)))
    _stays_on_1(world, running, "fit", r"uint8 \[5, 4, 3\]")


def _stays_on_1(world: World, running: Running, stage: str, reason: str) -> None:
    def failures() -> list[str]:
        return [event.body["reason"] for event in world.store.events.read("0") if event.kind == "failed"]

    until(failures)
    assert len(failures()) == 1
    assert f"version 2 cannot serve: {stage}: " in failures()[0]
    assert re.search(reason, failures()[0])
    assert str(world.data_dir) not in failures()[0]
    assert running.predict().version == 1
    assert running.server.metrics.registry.get_sample_value(BROKEN, {"stage": stage}) == 1
    status = running.status()
    assert (status.version, status.active_version) == (1, 2)
    world.publish(3)
    running.serves(3)


def test_a_version_that_was_repaired_can_be_activated_at_once(world):
    kept = {}

    def take_away(path: pathlib.Path) -> None:
        kept["head"] = (path / "head.safetensors").read_bytes()
        _remove(path)

    world.publish(1)
    running = world.server()
    world.publish(2, break_it=take_away)
    until(lambda: running.server.metrics.registry.get_sample_value(BROKEN, {"stage": "verify"}))
    assert "head.safetensors" in failure(lambda: _activate(running, 2)).details
    (world.artifacts.path(2) / "head.safetensors").write_bytes(kept["head"])
    assert _activate(running, 2).version == 2
    assert running.predict().version == 2


def test_at_the_start_the_newest_good_version_serves_when_the_active_one_is_damaged(world):
    world.publish(1)
    world.publish(2)
    world.publish(3, break_it=_flip)
    running = world.server()
    assert running.predict().version == 2
    assert running.status().active_version == 3


def test_with_no_good_version_at_all_the_server_still_starts_and_says_what_to_do(world):
    world.publish(1, break_it=_remove)
    running = world.server()
    failed = failure(lambda: running.predict())
    assert failed.code == grpc.StatusCode.FAILED_PRECONDITION
    world.publish(2)
    running.serves(2)


def test_rolling_back_pins_and_unpinning_goes_on(world):
    for version in (1, 2, 3):
        world.publish(version)
    running = world.server()
    answer = _activate(running, 1)
    assert (answer.version, answer.pinned) == (1, True)
    assert running.predict().version == 1  # served by the time the call returns
    world.publish(4)
    status = running.status()
    assert (status.version, status.active_version, status.pinned) == (1, 1, True)
    answer = _activate(running, unpin=True)
    assert (answer.version, answer.pinned) == (4, False)
    assert running.predict().version == 4
    world.publish(5)
    running.serves(5)


def test_a_version_that_is_unknown_rejected_or_damaged_cannot_be_activated(world):
    world.publish(1, break_it=_flip)
    world.publish(2)
    running = world.server()
    for version, code, text in (
        (9, grpc.StatusCode.NOT_FOUND, "9"),
        (0, grpc.StatusCode.NOT_FOUND, "0"),
        (1, grpc.StatusCode.FAILED_PRECONDITION, "graph.onnx"),
    ):
        failed = failure(partial(_activate, running, version))
        assert (failed.code, text in failed.details) == (code, True)
        assert str(world.data_dir) not in failed.details
    assert running.status().active_version == 2


def test_two_servers_on_one_store_both_follow(world):
    world.publish(1)
    running = [world.server(), world.server()]
    world.publish(2)
    for each in running:
        each.serves(2)
        assert each.predict().version == 2


def test_the_server_tells_when_the_newest_example_came_that_it_has_learned(world):
    running = world.server()
    registry = running.server.metrics.registry
    assert registry.get_sample_value("accrete_newest_learned_timestamp_seconds") == 0
    world.publish(1, learned={"cat": "1700000000000-3", "dog": "1700000005000-0"})
    running.serves(1)
    until(lambda: registry.get_sample_value("accrete_newest_learned_timestamp_seconds") == 1_700_000_005)


def test_the_record_of_a_live_version_is_read_again_only_once_its_revision_is_another(world, monkeypatch):
    world.publish(1)
    running = world.server()
    running.serves(1)
    records, looks = [], []
    read, look = Registry.version, Registry.state

    def counted_read(registry, number):
        records.append(number)
        return read(registry, number)

    def counted_look(registry):
        looks.append(1)
        return look(registry)

    monkeypatch.setattr(Registry, "version", counted_read)
    monkeypatch.setattr(Registry, "state", counted_look)
    for _ in range(3):
        world.store.events.append("phase", {"phase": "waiting", "reason": ""})
        before = len(looks)
        until(lambda: len(looks) >= before + 6)  # noqa: B023
    assert not records
    world.store.control.forget_class("cat")
    until(lambda: records)
    assert set(records) == {1}
