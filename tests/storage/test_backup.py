"""A backup holds all of one moment, and comes back as it was, or not at all."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from accrete_model.artifact_store import ArtifactStore
from accrete_model.artifacts import open_artifacts
from accrete_model.config import ArtifactsConfig, EngineConfig
from accrete_model.errors import BucketRefused, CorruptArtifact
from accrete_model.frozen import BackboneStore
from accrete_model.loaded_version import load
from accrete_storage.backup import MANIFEST, read
from accrete_storage.config import HoldoutConfig, StoreConfig
from accrete_storage.embedded.server import EmbeddedStore
from accrete_storage.errors import BackupUnusable
from accrete_storage.examples.pending import Outcome
from accrete_storage.store import Store
from accrete_storage.versions.judgements import Judged, pack
from benchmarks.bucket import home_of, open_in
from tests.model.artifacts import small_backbone, write_frozen_artifact
from tests.support.buckets import Buckets, overwrite

from .conftest import Connect, assert_counters_exact, example, examples, lease, step

pytestmark = pytest.mark.integration


@pytest.fixture
def taught(connect: Connect, tmp_path: Path) -> Store:
    """Two labels learned, in a version with files; one and a half pending."""
    store = connect(share=0.2)
    for label in ("a", "ключ"):
        store.pending.add(examples(label, 12))
    candidate = tmp_path / "candidate"
    candidate.mkdir()
    (candidate / "weights").write_bytes(bytes(range(256)))
    digest = open_in(tmp_path).publish(candidate, 1)
    held = lease(store)
    commit = step(store, held, ["a", "ключ"])
    judged = pack([Judged(id="a-0", label="a", predicted="ключ", probability=0.5)], commit.record.labels)
    assert store.commit(replace(commit, record=replace(commit.record, digest=digest), judgements=judged))
    held.release()
    store.pending.add([*examples("b", 7), *(example("a", number) for number in range(12, 15))])
    return store


@pytest.fixture
def artifacts(tmp_path: Path) -> ArtifactStore:
    versions = open_in(tmp_path)
    versions.take_over("this store", {})
    return versions


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[tuple[Store, ArtifactStore]]:
    """Another server, and another folder of versions."""
    home = tmp_path / "new"
    home.mkdir()
    server = EmbeddedStore(home, StoreConfig())
    server.start()
    store = Store.connect(StoreConfig(prefix="another"), HoldoutConfig(share=0.2), data_dir=home)
    yield store, open_in(home)
    store.close()
    server.stop()


def everything(store: Store) -> dict[str, object]:
    labels = store.pending.labels()
    ids = [f"{label}-{number}" for label in ("a", "b", "ключ") for number in range(15)]
    return {
        "pending": {
            label: [(one.position, one.holdout, one.example.id) for one in store.pending.read(label)]
            for label in labels
        },
        "total": store.pending.total(),
        "exemplars": {label: [one.id for one in store.memory.exemplars(label)] for label in store.memory.labels()},
        "holdout": {label: [one.id for one in store.memory.holdout(label)] for label in store.memory.labels()},
        "bytes": store.memory.exemplar_bytes(),
        "versions": store.registry.versions(),
        "judged": [store.judgements.of(record) for record in store.registry.versions()],
        "state": store.registry.state(),
        "located": store.pending.locate(ids),
        "events": store.events.last_id(),
    }


def test_what_is_restored_is_what_was_there(
    taught: Store, artifacts: ArtifactStore, empty: tuple[Store, ArtifactStore], tmp_path: Path
):
    before = everything(taught)
    taken = taught.back_up(tmp_path / "backup", artifacts)
    taught.pending.add(examples("later", 3))
    taught.control.forget_class("a")
    store, versions = empty
    found = read(tmp_path / "backup")
    assert found == taken
    store.restore(found, versions)
    assert everything(store) == before
    assert_counters_exact(store)
    assert versions.verify(1, taken.versions[1]).is_dir()
    assert store.pending.add([example("b", 3)]) == [Outcome.DUPLICATE], "ids are remembered"
    assert store.acquire_lease("learner") is not None


def test_a_backup_is_of_one_moment_while_examples_come(
    taught: Store, artifacts: ArtifactStore, empty: tuple[Store, ArtifactStore], tmp_path: Path
):
    acknowledged: list[str] = []
    enough = threading.Event()

    def teach() -> None:
        number = 100
        while not enough.is_set():
            taught.pending.add([example("b", number), example("c", number)])
            acknowledged.append(f"b-{number}")
            number += 1

    thread = threading.Thread(target=teach)
    thread.start()
    while len(acknowledged) < 50:
        pass
    promised = list(acknowledged)
    taught.back_up(tmp_path / "backup", artifacts)
    enough.set()
    thread.join()
    store, versions = empty
    store.restore(read(tmp_path / "backup"), versions)
    assert set(promised) <= set(store.pending.locate(promised))
    counts = store.pending.counts()
    assert counts["b"].examples - 7 == counts["c"].examples, "both of a batch, or none"
    assert_counters_exact(store)


def test_a_backup_goes_into_a_folder_of_its_own(taught: Store, artifacts: ArtifactStore, tmp_path: Path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(BackupUnusable, match="not empty"):
        taught.back_up(tmp_path / "full", artifacts)
    assert [one.name for one in (tmp_path / "full").iterdir()] == ["file"]


def test_a_damaged_version_is_left_out_and_named(
    taught: Store, artifacts: ArtifactStore, empty: tuple[Store, ArtifactStore], tmp_path: Path
):
    overwrite(home_of(tmp_path), artifacts, 1, "weights", b"other")
    before = everything(taught)
    taken = taught.back_up(tmp_path / "backup", artifacts)
    assert (taken.versions, list(taken.damaged)) == ({}, [1])
    assert re.search("v000001.*/weights .*has 5 bytes, not 256", taken.damaged[1])
    found = read(tmp_path / "backup")
    assert found == taken
    store, versions = empty
    store.restore(found, versions)
    assert everything(store) == before, "examples, exemplars and the record are there all the same"
    assert versions.list() == []


def test_a_version_that_a_step_retires_while_it_is_copied_is_not_called_damaged(
    taught: Store, artifacts: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    verify = ArtifactStore.verify

    def retired_meanwhile(self: ArtifactStore, version: int, digest: str | None = None) -> Path:
        if taught.registry.version(1).state == "ready":
            artifacts.remove(1)
            taught.registry.discard(1, "retired")
        return verify(self, version, digest)

    monkeypatch.setattr(ArtifactStore, "verify", retired_meanwhile)
    taken = taught.back_up(tmp_path / "backup", artifacts)
    assert (taken.versions, taken.damaged) == ({}, {})
    assert read(tmp_path / "backup") == taken


@pytest.fixture
def on_frozen(connect: Connect, tmp_path: Path) -> Store:
    """A label learned, in a version that refers to a frozen backbone."""
    store = connect(share=0.2)
    store.pending.add(examples("a", 12))
    backbones = BackboneStore(tmp_path / "backbones")
    write_frozen_artifact(tmp_path / "candidate", backbones, backbones.put(small_backbone()))
    digest = open_in(tmp_path).publish(tmp_path / "candidate", 1)
    held = lease(store)
    commit = step(store, held, ["a"])
    assert store.commit(replace(commit, record=replace(commit.record, digest=digest)))
    held.release()
    return store


def test_a_backup_has_the_frozen_backbone_of_a_version(
    on_frozen: Store, artifacts: ArtifactStore, empty: tuple[Store, ArtifactStore], tmp_path: Path
):
    on_frozen.back_up(tmp_path / "backup", artifacts)
    shutil.rmtree(artifacts.backbones)
    store, versions = empty
    store.restore(read(tmp_path / "backup"), versions)
    load(versions.path(1), 1, EngineConfig(device="cpu")).close()


@pytest.mark.parametrize("kind", ["file", "rclone"])
def test_a_backup_goes_from_one_bucket_into_another(
    on_frozen: Store,
    empty: tuple[Store, ArtifactStore],
    buckets: Buckets,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
):
    """By machines that have none of the versions."""
    (first, environment), (second, _) = buckets.new(kind), buckets.new(kind)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    from_one, into_another = (ArtifactsConfig(url=url) for url in (first, second))
    digest = on_frozen.registry.version(1).digest
    on_frozen.bind_model("uint8 [8, 8, 1]")
    open_artifacts(from_one, tmp_path).take_over("identity", {1: digest})
    taken = on_frozen.back_up(tmp_path / "backup", open_artifacts(from_one, tmp_path / "machine"))
    assert (taken.versions, taken.damaged) == ({1: digest}, {})
    store, _ = empty
    store.restore(read(tmp_path / "backup"), open_artifacts(into_another, tmp_path / "restored"))
    folder = open_artifacts(into_another, tmp_path / "new machine").verify(1, digest)
    load(folder, 1, EngineConfig(device="cpu")).close()
    with pytest.raises(BackupUnusable, match="not empty"):
        store.restore(read(tmp_path / "backup"), open_artifacts(into_another, tmp_path / "restored"))
    assert store.identity().startswith(f"{on_frozen.identity()}-"), "else the first would be taken for the owner below"
    open_artifacts(into_another, tmp_path / "restored").take_over(store.identity(), {1: digest})
    with pytest.raises(BucketRefused, match="another store's"):
        open_artifacts(into_another, tmp_path).take_over(on_frozen.identity(), {1: digest})


def test_a_version_with_a_damaged_backbone_is_neither_backed_up_nor_restored(
    on_frozen: Store, artifacts: ArtifactStore, tmp_path: Path
):
    on_frozen.back_up(tmp_path / "good", artifacts)
    for root in (tmp_path / "good", tmp_path):
        (graph,) = (root / "backbones").glob("*/graph.onnx")
        graph.write_bytes(graph.read_bytes()[:-1])
    with pytest.raises(CorruptArtifact, match="v000001 cannot be loaded: read: backbone"):
        read(tmp_path / "good")
    taken = on_frozen.back_up(tmp_path / "backup", artifacts)
    assert "v000001 cannot be loaded: read: backbone" in taken.damaged[1]
    assert ArtifactStore(tmp_path / "backup" / "versions").list() == []


@pytest.mark.parametrize("spoil", ["unfinished", "store.bin", "versions/v000001/weights", MANIFEST])
def test_what_is_not_whole_is_not_restored(
    taught: Store, artifacts: ArtifactStore, empty: tuple[Store, ArtifactStore], tmp_path: Path, spoil: str
):
    folder = tmp_path / "backup"
    taught.back_up(folder, artifacts)
    if spoil == "unfinished":
        (folder / MANIFEST).unlink()
    else:
        content = bytearray((folder / spoil).read_bytes())
        content[len(content) // 2] ^= 4
        (folder / spoil).write_bytes(content)
    store, versions = empty
    with pytest.raises((BackupUnusable, CorruptArtifact)):
        store.restore(read(folder), versions)
    assert (store.pending.labels(), store.registry.versions(), versions.list()) == ([], [], [])


def test_a_backup_of_another_schema_is_refused(taught: Store, artifacts: ArtifactStore, tmp_path: Path):
    taught.back_up(tmp_path / "backup", artifacts)
    manifest = tmp_path / "backup" / MANIFEST
    manifest.write_text(manifest.read_text().replace('"schema": "1"', '"schema": "2"'))
    with pytest.raises(BackupUnusable, match="schema 2; this release reads schema 1"):
        read(tmp_path / "backup")


def test_a_backup_is_restored_into_nothing_but_an_empty_store(
    taught: Store, artifacts: ArtifactStore, empty: tuple[Store, ArtifactStore], tmp_path: Path
):
    taught.back_up(tmp_path / "backup", artifacts)
    store, versions = empty
    store.pending.add(examples("own", 1))
    with pytest.raises(BackupUnusable, match="not empty"):
        store.restore(read(tmp_path / "backup"), versions)
    assert store.pending.labels() == ["own"]
    assert versions.list() == []
