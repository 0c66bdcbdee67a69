"""Frozen backbones: kept once, checked, shared by the versions that refer to them."""

from __future__ import annotations

import dataclasses
import os
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from accrete_model.config import EngineConfig
from accrete_model.engines.base import Engine
from accrete_model.engines.shared import SharedEngines
from accrete_model.errors import LoadError
from accrete_model.frozen import BackboneStore, acquire, engine
from accrete_model.input_spec import InputSpec
from accrete_model.loaded_version import load
from accrete_model.reader import read_card
from accrete_model.vectors import softmax
from tests.model.artifacts import FROZEN_LENGTH, small_backbone, write_frozen_artifact

CPU = EngineConfig(device="cpu")


@pytest.fixture
def store(tmp_path: Path) -> BackboneStore:
    return BackboneStore(tmp_path / "backbones")


def test_what_is_put_comes_back(store: BackboneStore):
    made = small_backbone()
    digest = store.put(made)
    assert digest == made.digest
    assert store.get(digest) == made
    assert store.list() == [digest]
    assert {file.name for file in store.path(digest).iterdir()} == {"graph.onnx", "backbone.json", "golden.safetensors"}
    assert store.path(digest).stat().st_mode & 0o055 == 0o055  # a server may run as another user


def test_a_digest_covers_the_graph_and_the_card():
    digests = {
        made.digest
        for made in (small_backbone(), small_backbone(1), small_backbone(shorter_side=5), small_backbone(name="other"))
    }
    assert len(digests) == 4
    assert small_backbone().digest == small_backbone().digest


@pytest.mark.parametrize("name", ["graph.onnx", "backbone.json", "golden.safetensors"])
@pytest.mark.parametrize("fault", ["changed", "missing"])
def test_a_damaged_backbone_is_told_and_put_again(store: BackboneStore, name: str, fault: str):
    digest = store.put(small_backbone())
    file = store.path(digest) / name
    file.write_bytes(file.read_bytes()[:-1]) if fault == "changed" else file.unlink()
    with pytest.raises(LoadError, match=f"read: backbone {digest[:12]}"):
        acquire(store, digest, CPU)
    assert store.put(small_backbone()) == digest
    acquire(store, digest, CPU).close()
    assert [entry.name for entry in store.path(digest).parent.iterdir()] == [digest]


def test_a_digest_is_never_a_path(store: BackboneStore):
    for name in ("", "..", "../versions", "A" * 64, "a" * 63):
        with pytest.raises(LoadError, match="no digest"):
            store.get(name)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"graph": b"no graph"}, "engine: "),
        ({"feature_length": 6}, r"golden: test 0: features are float32 \[4, 5\]"),
        ({"spec": InputSpec((5, 4, 3), "uint8")}, "engine: test 0: "),
    ],
)
def test_a_backbone_that_does_not_run_as_it_says_is_not_kept(store: BackboneStore, changes: Any, reason: str):
    with pytest.raises(LoadError, match=reason):
        store.put(small_backbone(**changes))
    assert store.list() == []


def _age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_what_nothing_refers_to_is_removed_once_it_is_old(store: BackboneStore):
    needed, other, young = (store.put(small_backbone(name=name)) for name in ("needed", "other", "young"))
    root = store.path(needed).parent
    for left in (".incoming-old", ".removed-old", ".incoming-young"):
        shutil.copytree(store.path(needed), root / left)
        _age(root / left, 100 if left.endswith("old") else 0)
    for digest in (needed, other):
        _age(store.path(digest), 100)
    assert store.retain([needed], younger_s=60) == (other,)
    assert {entry.name for entry in root.iterdir()} == {needed, young, ".incoming-young"}
    assert store.get(needed).name == "needed"


def test_a_backbone_that_is_put_again_is_young_again(store: BackboneStore):
    made = small_backbone()
    digest = store.put(made)
    _age(store.path(digest), 100)
    assert store.put(made) == digest
    assert store.retain([], younger_s=60) == ()
    assert store.list() == [digest]


def test_a_folder_that_was_never_made_has_nothing_to_remove(store: BackboneStore):
    assert store.retain([], younger_s=0) == ()


def test_processes_that_put_the_same_one_at_once_agree(store: BackboneStore):
    made, digests = small_backbone(), []
    threads = [threading.Thread(target=lambda: digests.append(store.put(made))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert digests == 8 * [made.digest]
    assert [entry.name for entry in store.path(made.digest).parent.iterdir()] == [made.digest]


def test_a_version_refers_to_a_backbone_and_has_no_graph_of_its_own(tmp_path: Path, store: BackboneStore):
    digest = store.put(small_backbone())
    folder = write_frozen_artifact(tmp_path / "versions" / "v000001", store, digest)
    assert {file.name for file in folder.iterdir()} == {"model.json", "head.safetensors", "golden.safetensors"}
    assert read_card(folder).frozen == digest
    loaded = load(folder, 1, CPU)
    images = np.random.default_rng(1).integers(0, 256, (3, 4, 4, 3), dtype=np.uint8)
    matrix = np.random.default_rng(0).standard_normal((48, FROZEN_LENGTH)) / 255
    wanted = images.reshape(3, -1) @ matrix
    np.testing.assert_allclose(loaded.features(images), wanted, atol=1e-4)
    head = load_file(folder / "head.safetensors")["weight"]
    np.testing.assert_allclose(
        loaded.classifier()(loaded.features(images)), softmax((wanted @ head.T).astype(np.float32)), atol=1e-4
    )
    loaded.close()


def test_how_images_are_cropped_is_the_versions_own_affair(tmp_path: Path, store: BackboneStore):
    spec = InputSpec((4, 4, 3), "uint8", 5)
    folder = write_frozen_artifact(tmp_path / "versions" / "v1", store, store.put(small_backbone()), spec=spec)
    loaded = load(folder, 1, CPU)
    assert loaded.spec == spec
    loaded.close()


def test_a_candidate_elsewhere_is_told_where_the_backbones_are(tmp_path: Path, store: BackboneStore):
    folder = write_frozen_artifact(tmp_path / "a" / "b" / "candidate", store, store.put(small_backbone()))
    with pytest.raises(LoadError, match=r"read: backbone \w{12}: backbone.json: No such file"):
        load(folder, 1, CPU)
    load(folder, 1, CPU, tmp_path / "backbones").close()


def test_versions_share_one_engine_until_the_last_one_goes(tmp_path: Path, store: BackboneStore):
    digest = store.put(small_backbone())
    folders = [write_frozen_artifact(tmp_path / "versions" / f"v{n}", store, digest, seed=n) for n in range(3)]
    loaded = [load(folder, n, CPU) for n, folder in enumerate(folders)]
    assert engine.users(digest, CPU) == 3
    # Without the graph there is nothing that a second session could be made of.
    (store.path(digest) / "graph.onnx").rename(tmp_path / "graph.onnx")
    loaded.append(load(folders[0], 3, CPU))
    image = np.zeros((1, 4, 4, 3), np.uint8)
    for version in loaded[:3]:
        version.close()
        version.close()  # a second time changes nothing
    assert loaded[3].features(image).shape == (1, FROZEN_LENGTH)
    assert engine.users(digest, CPU) == 1
    loaded[3].close()
    assert engine.users(digest, CPU) == 0
    with pytest.raises(LoadError, match="graph.onnx"):
        load(folders[0], 4, CPU)


def test_a_frozen_backbone_needs_no_torch_whatever_engine_is_set(tmp_path: Path, store: BackboneStore):
    folder = write_frozen_artifact(tmp_path / "versions" / "v1", store, store.put(small_backbone()))
    loaded = load(folder, 1, EngineConfig(engine="torch", device="cpu"))
    assert loaded.engine_name == "onnxruntime CPUExecutionProvider"
    loaded.close()


def test_configurations_do_not_share(store: BackboneStore):
    digest = store.put(small_backbone())
    one, two = acquire(store, digest, CPU), acquire(store, digest, EngineConfig(device="cpu", threads=2))
    assert engine.users(digest, CPU) == 1
    one.close()
    two.close()


@pytest.mark.parametrize(
    ("file", "tensor", "reason"),
    [
        ("backbone", "features", "golden: features differ"),
        ("version", "features", "golden: features differ"),
        ("version", "probabilities", "golden: probabilities differ"),
    ],
)
def test_golden_outputs_that_differ_are_refused(
    tmp_path: Path, store: BackboneStore, file: str, tensor: str, reason: str
):
    digest = store.put(small_backbone())
    folder = write_frozen_artifact(tmp_path / "versions" / "v1", store, digest)
    golden = (folder if file == "version" else store.path(digest)) / "golden.safetensors"
    tensors = load_file(golden)
    tensors[tensor] = tensors[tensor] * 1.5
    save_file(tensors, golden)
    with pytest.raises(LoadError, match=reason):
        load(folder, 1, CPU)
    assert engine.users(digest, CPU) == 0


def test_a_head_of_another_backbone_is_refused(tmp_path: Path, store: BackboneStore):
    digest, other = store.put(small_backbone()), store.put(small_backbone(1))
    folder = write_frozen_artifact(tmp_path / "versions" / "v1", store, digest)
    card = dataclasses.replace(read_card(folder), frozen=other)
    (folder / "model.json").write_text(card.to_json())
    with pytest.raises(LoadError, match="golden: features differ"):
        load(folder, 1, CPU)
    (folder / "model.json").write_text(
        dataclasses.replace(card, frozen=digest, spec=InputSpec((8, 4, 3), "uint8")).to_json()
    )
    with pytest.raises(LoadError, match=r"takes uint8 \[4, 4, 3\], the version uint8 \[8, 4, 3\]"):
        load(folder, 1, CPU)


def test_a_writer_wants_a_card_of_its_kind(tmp_path: Path, store: BackboneStore):
    digest = store.put(small_backbone())
    with pytest.raises(ValueError, match="no frozen backbone"):
        write_frozen_artifact(tmp_path / "v", store, digest, frozen="")
    assert not (tmp_path / "v").exists()


def test_an_engine_that_cannot_be_made_leaves_nothing_behind():
    engines = SharedEngines()
    made: list[None] = []

    def fail() -> Engine:
        made.append(None)
        raise LoadError("engine", "no")

    for _ in range(2):
        with pytest.raises(LoadError, match="no"):
            engines.acquire("key", fail)
    assert len(made) == 2
    assert engines.users("key") == 0
