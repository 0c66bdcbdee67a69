"""A closed form learns in the learner's process: each example once, whatever the order, and none that was deleted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from accrete_learner_service.analytic.learning import features_s
from accrete_model.config import EngineConfig
from accrete_model.files import HEAD_FILE
from accrete_model.loaded_version import load
from accrete_storage.config import StoreConfig
from accrete_storage.examples.example import Example
from accrete_storage.store import Store
from accrete_storage.versions.record import VersionRecord
from benchmarks.digits import scans_of
from benchmarks.waiting import until
from tests.learner_service.helpers import RunningLearner
from tests.learner_service.run_learner import HOLDOUT
from tests.support.store import SharedStore

OPTIONS: dict[str, dict[str, Any]] = {
    "method": {"name": "analytic"},
    "model": {"backbone": "identity", "embedding": 64},
    "trigger": {"min_examples": 1, "refresh_examples": 1, "settle_s": 0.0},
    "learner": {"poll_s": 0.05},
}


def vectors(label: int, count: int, start: int = 0) -> list[Example]:
    """Scans of one digit as embeddings of 64 numbers."""
    images, _ = scans_of([label], count, start)
    return [
        Example(id=f"{label}-{start + n}", label=f"digit {label}", content=x.reshape(64).astype(np.float32) / 255)
        for n, x in enumerate(images)
    ]


class World:
    """A store of its own with a learner that runs on it."""

    def __init__(self, folder: Path, config: StoreConfig, options: dict[str, dict[str, Any]]) -> None:
        folder.mkdir()
        self._options = OPTIONS | options
        self.folder = folder
        self._config = config
        self.store = Store.connect(config, HOLDOUT, data_dir=folder)
        self.store.bind_model("float32 [64]")
        self.learner = self._start()

    def _start(self) -> RunningLearner:
        return RunningLearner(self.folder, self.store, self._config, **self._options)

    def restart(self) -> None:
        self.learner.kill()
        self.learner = self._start()

    def teach(self, *batches: Sequence[Example]) -> VersionRecord:
        """Teaches batch after batch, and returns the version that has learned all of them."""
        for batch in batches:
            self.store.pending.add(batch)
            self.wait()
        return self.wait()

    def wait(self) -> VersionRecord:
        """Waits for a version that has learned all that is pending and nothing that was deleted."""

        def look() -> VersionRecord | None:
            state = self.store.registry.state()
            newest = self.store.registry.latest_ready()
            settled = newest is not None and newest.revision == state.revision
            return newest if settled and not self.store.pending.total().examples else None

        return until(look, self.learner.log)  # type: ignore[no-any-return]

    def head(self) -> dict[str, np.ndarray]:
        """The live version's rows by label, each with its bias."""
        newest = self.wait()
        found = load_file(self.folder / "versions" / f"v{newest.version:06d}" / HEAD_FILE)
        rows = np.concatenate([found["weight"], found["bias"][:, None]], axis=1)
        return dict(zip(newest.labels, rows, strict=True))

    def accuracy(self, examples: Sequence[Example]) -> float:
        newest = self.wait()
        loaded = load(self.folder / "versions" / f"v{newest.version:06d}", newest.version, EngineConfig(device="cpu"))
        try:
            found = loaded.classifier()
            best = found(loaded.features(np.stack([one.tensor for one in examples]))).argmax(axis=1)
            return float(np.mean([found.labels[row] == one.label for row, one in zip(best, examples, strict=True)]))
        finally:
            loaded.close()

    def close(self) -> None:
        self.learner.kill()
        self.store.close()


@pytest.fixture
def world(shared_store: SharedStore, tmp_path: Path) -> Iterator[Callable[..., World]]:
    """Makes worlds that know nothing of each other."""
    made: list[World] = []

    def make(**options: dict[str, Any]) -> World:
        made.append(World(tmp_path / f"data{len(made)}", shared_store.config(), options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def difference(some: dict[str, np.ndarray], others: dict[str, np.ndarray]) -> float:
    assert some.keys() == others.keys()
    return max(float(np.abs(row - others[label]).max() / np.abs(row).max()) for label, row in some.items())


def test_classes_are_learned_as_they_come_without_a_trainer(world):
    one = world()
    first = one.teach(vectors(0, 5) + vectors(1, 5))
    assert set(first.labels) == {"digit 0", "digit 1"}
    second = one.teach(vectors(2, 1))
    assert second.new_labels == ["digit 2"]
    newest = one.teach(*(vectors(label, 20, start=5) for label in range(5)))
    assert one.accuracy([scan for label in range(5) for scan in vectors(label, 40, start=100)]) > 0.8
    assert newest.accuracy["examples"] > 90, "every image measures"
    assert 0.8 < newest.accuracy["all"] <= 1
    assert sum(newest.class_examples.values()) == newest.accuracy["examples"]
    judged = one.store.judgements.of(newest)
    taught = {scan.id: scan.label for label in range(5) for scan in vectors(label, 25)}
    assert len(judged.images) == newest.accuracy["examples"]
    assert all(taught[image.id] == image.label for image in judged.images)
    right = Counter(image.label for image in judged.images if image.predicted == image.label)
    assert {label: right[label] / total for label, total in newest.class_examples.items()} == newest.class_accuracy
    assert 0.2 < min(image.probability for image in judged.images) < max(image.probability for image in judged.images)
    assert "trainer.started" not in one.learner.log()
    assert not one.store.memory.holdout("digit 0"), "no image is set aside"
    assert len(one.store.memory.exemplars("digit 0")) == 5


@pytest.mark.parametrize(
    ("before", "seconds"),
    [
        ({}, 1.0),  # the first
        ({"features": 0.9, "solving": 0.2, "total": 1.1}, 1.0),
        ({"features": 1.0, "solving": 6.0, "total": 8.0}, 7.0),
        ({"features": 7.0, "solving": 6.0, "total": 14.0}, 7.0),  # what it computes itself makes it no longer
        ({"staging": 900.0, "features": 1.0, "total": 905.0}, 30.0),
    ],
)
def test_features_get_as_long_as_the_rest_of_a_step_so_that_many_classes_do_not_starve_what_comes(before, seconds):
    assert features_s(before) == pytest.approx(seconds)


def test_order_and_parts_make_no_difference(world):
    one, other = world(), world()
    batches = [vectors(label, 12) for label in range(4)]
    one.teach([scan for batch in batches for scan in batch])
    mixed = [scan for scans in zip(*reversed(batches), strict=True) for scan in scans]
    other.teach(mixed[:7], mixed[7:30], mixed[30:])
    assert difference(one.head(), other.head()) < 1e-5


def test_a_deleted_example_leaves_the_head_that_never_saw_it(world):
    one, other = world(), world()
    kept = [scan for label in range(3) for scan in vectors(label, 8)]
    gone = vectors(1, 3, start=50)
    before = one.teach(kept, gone)
    other.teach(kept)
    assert difference(one.head(), other.head()) > 1e-3
    assert one.store.control.delete_examples([scan.id for scan in gone]).deleted == 3
    assert one.wait().version > before.version, "nothing else has to come"
    assert difference(one.head(), other.head()) < 1e-5
    kept_of = [one.store.judgements.of(record) for record in one.store.registry.versions() if record.state == "ready"]
    assert len(kept_of) >= 2
    for judged in kept_of:
        assert judged.images, "each version was judged"
        assert not {image.id for image in judged.images} & {scan.id for scan in gone}


def test_a_forgotten_class_leaves_the_head_that_never_saw_it(world):
    one, other = world(), world()
    kept = [scan for label in (0, 2) for scan in vectors(label, 8)]
    one.teach(kept, vectors(1, 8))
    one.store.control.forget_class("digit 1")
    other.teach(kept)
    assert one.wait().labels == ["digit 0", "digit 2"]
    assert difference(one.head(), other.head()) < 1e-5


def test_a_killed_learner_goes_on_with_all_that_it_had_learned(world):
    one, other = world(), world()
    one.teach(vectors(0, 8) + vectors(1, 8))
    one.restart()
    one.teach(vectors(2, 8))
    other.teach([scan for label in range(3) for scan in vectors(label, 8)])
    assert difference(one.head(), other.head()) < 1e-5


def test_what_is_taught_again_counts_once(world):
    one, other = world(), world()
    scans = vectors(0, 6) + vectors(1, 6)
    one.teach(scans)
    # As after the days for which an id is remembered.
    for scan in scans[:2]:
        one.store._database.client.delete(one.store._keys.seen(scan.id))
    one.teach(scans[:2])
    other.teach(scans)
    assert difference(one.head(), other.head()) < 1e-5


def test_a_version_that_few_examples_measure_says_that_it_was_not_judged(world):
    one = world(gate={"enabled": True})
    one.teach(vectors(0, 3) + vectors(1, 3))
    newest = one.teach(vectors(2, 3))
    assert newest.reason == "not judged on the old classes: 6 examples measure them, 20 are needed"
    until(lambda: one.store.control.phase_reason() == f"version {newest.version}: {newest.reason}", one.learner.log)
    events = [event for event in one.store.events.read("0", count=1000) if event.kind == "phase"]
    assert newest.reason in [event.body["reason"] for event in events if event.body["phase"] == "committing"]


def test_a_version_that_is_given_up_takes_no_example_with_it(world):
    one = world()
    one.teach(vectors(0, 6) + vectors(1, 6))
    newest = one.teach(vectors(2, 6))
    before = one.head()
    one.store.registry.discard(newest.version, "for a test")
    one.store.control.request_step()
    until(lambda: (found := one.store.registry.latest_ready()) and found.version > newest.version, one.learner.log)
    assert difference(one.head(), before) < 1e-5
