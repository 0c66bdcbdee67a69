"""Which versions' files go."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from accrete_learner_service.loop.retention import clear_backbones, to_drop, to_remove, to_retire
from accrete_model.artifact_store import ArtifactStore
from accrete_model.frozen import BackboneStore
from accrete_storage.store import Store
from tests.learner_service.helpers import record
from tests.model.artifacts import small_backbone, write_frozen_artifact

VERSIONS = [record(n, state="rejected" if n == 4 else "ready") for n in range(1, 7)]


@pytest.mark.parametrize(
    ("active", "keep", "gone"),
    [(6, 3, [2, 1]), (1, 3, [2]), (6, 9, []), (6, 1, [5, 3, 2, 1]), (3, 1, [5, 2, 1]), (0, 2, [3, 2, 1])],
)
def test_the_newest_ready_ones_and_the_active_one_stay(active: int, keep: int, gone: list[int]):
    assert to_retire(VERSIONS, active=active, keep=keep) == gone


def test_files_without_a_ready_version_are_removed():
    versions = [record(1, state="retired"), record(2), record(3, state="rejected")]
    assert to_remove(versions, [1, 2, 3, 4], upto=4) == [1, 3, 4]


def test_files_that_came_after_the_look_are_another_learners():
    assert to_remove([record(1)], [1, 2, 3], upto=2) == [2]


def test_the_oldest_records_go_unless_they_may_serve():
    states = ["ready", "rejected", "retired", "retired", "rejected", "ready", "ready"]
    records = [record(number, state=state) for number, state in enumerate(states, 1)]
    assert to_drop(records, keep=3) == [4, 3, 2]
    assert to_drop(records, keep=10) == []


def test_a_backbone_goes_once_no_version_with_files_and_no_setting_refers_to_it(store: Store, tmp_path: Path):
    artifacts = ArtifactStore(tmp_path / "versions")
    backbones = BackboneStore(artifacts.backbones)
    configured, referred, other = (backbones.put(small_backbone(seed)) for seed in range(3))
    for version, digest in enumerate((referred, other), 1):
        write_frozen_artifact(tmp_path / "candidate", backbones, digest)
        artifacts.publish(tmp_path / "candidate", version)
    for digest in backbones.list():
        os.utime(backbones.path(digest), (0, 0))
    clear_backbones(store, artifacts, configured)
    assert set(backbones.list()) == {configured, referred, other}
    artifacts.remove(2)
    clear_backbones(store, artifacts, configured)
    assert set(backbones.list()) == {configured, referred}


def test_no_backbone_goes_while_it_is_unknown_what_a_version_refers_to(store: Store, tmp_path: Path):
    artifacts = ArtifactStore(tmp_path / "versions")
    backbones = BackboneStore(artifacts.backbones)
    digest = backbones.put(small_backbone())
    write_frozen_artifact(tmp_path / "candidate", backbones, digest)
    artifacts.publish(tmp_path / "candidate", 1)
    os.utime(backbones.path(digest), (0, 0))
    (artifacts.path(1) / "model.json").write_text("{")
    clear_backbones(store, artifacts, "")
    assert backbones.list() == [digest]
