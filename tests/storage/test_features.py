"""Features of learned examples: written by the commit, removed with what they are of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from accrete_storage.backup import read
from accrete_storage.errors import InputsChanged
from accrete_storage.examples.features import pack_features, rounded
from accrete_storage.store import Store
from accrete_storage.versions.commit import Commit
from benchmarks.bucket import open_in

from .conftest import Connect, examples, ids, lease, step


def vectors(count: int, seed: int = 0) -> np.ndarray:
    found = np.random.default_rng(seed).standard_normal((count, 5)).astype(np.float32)
    return rounded(found / np.linalg.norm(found, axis=1, keepdims=True), "float16")


class Learner:
    """Commits features under one lease."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.lease = lease(store)
        self.known: list[str] = []

    def prepare(self, label: str, first: int, count: int) -> tuple[Commit, np.ndarray]:
        self.store.pending.add(examples(label, count, start=first))
        named = ids([entry.example for entry in self.store.pending.read(label)])
        made = vectors(count, seed=first)
        features = {label: pack_features(named, made, "float16")}
        others = [one for one in self.known if one != label]
        self.known = [*others, label]
        return step(self.store, self.lease, [label], known=others, features=features), made

    def learn(self, label: str, first: int, count: int) -> np.ndarray:
        """Teach examples of a label and commit them with features, which are returned."""
        commit, made = self.prepare(label, first, count)
        assert self.store.commit(commit)
        return made


@pytest.fixture
def learner(store: Store) -> Learner:
    return Learner(store)


def test_a_commit_adds_features_to_those_that_are_kept(store: Store, learner: Learner):
    first, second = learner.learn("a", 0, 4), learner.learn("a", 10, 3)
    named, found = store.features.of("a", "float16")
    assert named == sorted(named)
    assert set(named) == {"a-0", "a-1", "a-2", "a-3", "a-10", "a-11", "a-12"}
    by_id = dict(zip(named, found, strict=True))
    assert np.array_equal(np.stack([by_id[f"a-{i}"] for i in range(4)]), first)
    assert np.array_equal(np.stack([by_id[f"a-{i}"] for i in range(10, 13)]), second)
    assert store.features.of("nobody", "float16")[0] == []


def test_a_deleted_example_leaves_no_feature_whether_its_image_is_kept_or_not(store: Store, learner: Learner):
    learner.learn("a", 0, 6)
    kept = set(ids(store.memory.exemplars("a")))
    gone = next(name for name in store.features.of("a", "float16")[0] if name not in kept)
    before = store.registry.state().revision
    assert store.control.delete_examples([gone]).deleted == 1
    assert store.registry.state().revision == before + 1
    assert gone not in store.features.of("a", "float16")[0]
    assert store.control.delete_examples([gone]).unknown == [gone]


def test_a_forgotten_class_leaves_no_feature(store: Store, learner: Learner):
    learner.learn("a", 0, 3)
    learner.learn("b", 0, 3)
    store.control.forget_class("a")
    assert store.features.of("a", "float16")[0] == []
    assert len(store.features.of("b", "float16")[0]) == 3


def test_a_step_whose_examples_were_deleted_commits_no_feature(store: Store, learner: Learner):
    learner.learn("b", 0, 3)
    commit, _ = learner.prepare("a", 0, 3)
    store.control.delete_examples(["a-1"])
    with pytest.raises(InputsChanged):
        store.commit(commit)
    assert store.features.of("a", "float16")[0] == []


def test_features_of_another_backbone_take_the_place_of_all_others_with_the_commit(store: Store, learner: Learner):
    first, _ = learner.prepare("a", 0, 3)
    assert store.commit(replace(first, backbone="one"))
    learner.learn("b", 0, 3)
    commit, made = learner.prepare("a", 10, 2)
    assert store.features.backbone() == "one"
    assert len(store.features.of("b", "float16")[0]) == 3
    assert store.commit(replace(commit, backbone="other"))
    assert store.features.backbone() == "other"
    named, found = store.features.of("a", "float16")
    assert named == ["a-10", "a-11"]
    assert np.array_equal(found, made)
    assert store.features.of("b", "float16")[0] == []
    assert store.memory.exemplars("b")


def test_a_change_of_backbone_whose_examples_were_deleted_meanwhile_changes_nothing(store: Store, learner: Learner):
    first, _ = learner.prepare("a", 0, 3)
    assert store.commit(replace(first, backbone="one"))
    commit, _ = learner.prepare("a", 10, 2)
    store.control.delete_examples(["a-1"])
    with pytest.raises(InputsChanged):
        store.commit(replace(commit, backbone="other"))
    assert store.features.backbone() == "one"
    assert store.features.of("a", "float16")[0] == ["a-0", "a-2"]


def test_a_backup_has_the_features(store: Store, learner: Learner, connect: Connect, tmp_path: Path):
    commit, _ = learner.prepare("a", 0, 3)
    assert store.commit(replace(commit, backbone="one"))
    artifacts = open_in(tmp_path)
    (tmp_path / "candidate").mkdir()
    (tmp_path / "candidate" / "weights").write_text("of nobody")
    artifacts.publish(tmp_path / "candidate", 1)
    taken = store.back_up(tmp_path / "backup", artifacts)
    assert taken.keys
    other = connect(prefix=f"restored-{tmp_path.name}")
    other.restore(read(tmp_path / "backup"), open_in(tmp_path / "restored"))
    assert np.array_equal(other.features.of("a", "float16")[1], store.features.of("a", "float16")[1])
    assert other.features.backbone() == "one"
