"""Version files are published whole, and checked before use."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from accrete_model.artifact_store import ArtifactStore
from accrete_model.errors import CorruptArtifact


@pytest.fixture
def artifacts(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "versions")


def candidate(tmp_path: Path, content: bytes = b"weights") -> Path:
    folder = tmp_path / "candidate"
    folder.mkdir()
    (folder / "weights.safetensors").write_bytes(content)
    (folder / "model.json").write_text("{}")
    return folder


def test_a_published_version_is_what_was_handed_in(artifacts: ArtifactStore, tmp_path: Path):
    digest = artifacts.publish(candidate(tmp_path), 3)
    folder = artifacts.verify(3, digest)
    assert (folder / "weights.safetensors").read_bytes() == b"weights"
    assert artifacts.list() == [3]
    assert not (tmp_path / "candidate").exists()


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "grow"])
def test_damage_is_told_by_the_files_name(artifacts: ArtifactStore, tmp_path: Path, damage: str):
    digest = artifacts.publish(candidate(tmp_path), 1)
    file = artifacts.path(1) / "weights.safetensors"
    content = file.read_bytes()
    if damage == "remove":
        file.unlink()
    else:
        changed = {"flip": b"Weights", "truncate": content[:3], "grow": content + b"x"}
        file.write_bytes(changed[damage])
    with pytest.raises(CorruptArtifact, match=r"weights\.safetensors"):
        artifacts.verify(1, digest)


def test_a_manifest_that_was_replaced_is_refused(artifacts: ArtifactStore, tmp_path: Path):
    digest = artifacts.publish(candidate(tmp_path), 1)
    manifest = artifacts.path(1) / "manifest.json"
    manifest.write_text(manifest.read_text() + " ")
    with pytest.raises(CorruptArtifact, match="not the one that was published"):
        artifacts.verify(1, digest)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 9, "version": 1, "files": {}}', "\x00\x01"])
def test_a_manifest_that_is_none_is_refused(artifacts: ArtifactStore, tmp_path: Path, text: str):
    artifacts.publish(candidate(tmp_path), 1)
    (artifacts.path(1) / "manifest.json").write_text(text)
    with pytest.raises(CorruptArtifact, match=r"manifest\.json"):
        artifacts.verify(1)


def test_a_manifest_cannot_name_files_elsewhere(artifacts: ArtifactStore, tmp_path: Path):
    artifacts.publish(candidate(tmp_path), 1)
    manifest = artifacts.path(1) / "manifest.json"
    content = json.loads(manifest.read_text())
    content["files"]["../secret"] = {"sha256": "", "bytes": 0}
    manifest.write_text(json.dumps(content))
    with pytest.raises(CorruptArtifact, match="outside"):
        artifacts.verify(1)


def test_what_a_killed_learner_left_is_replaced(artifacts: ArtifactStore, tmp_path: Path):
    artifacts.publish(candidate(tmp_path, b"old"), 1)
    digest = artifacts.publish(candidate(tmp_path, b"new"), 1)
    assert (artifacts.verify(1, digest) / "weights.safetensors").read_bytes() == b"new"


def test_removing_is_complete_and_may_be_repeated(artifacts: ArtifactStore, tmp_path: Path):
    artifacts.publish(candidate(tmp_path), 1)
    artifacts.remove(1)
    artifacts.remove(1)
    assert artifacts.list() == []
    with pytest.raises(CorruptArtifact):
        artifacts.verify(1)


def test_the_folder_of_versions_may_be_on_another_file_system(
    artifacts: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    made, rename = candidate(tmp_path), Path.rename

    def across(self: Path, target: Path) -> Path:
        if self == made:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", across)
    digest = artifacts.publish(made, 3)
    assert artifacts.verify(3, digest) == artifacts.path(3)
    assert artifacts.list() == [3]
    assert not made.exists()
    assert not list(artifacts.path(3).parent.glob(".*")), "nothing is left beside it"
