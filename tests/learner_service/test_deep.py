"""A deep step beside the loop: kept or dropped, caught up, kept through a restart, and given up after a deletion.

One learner after another works on one store, on digits of 32 x 32 pixels, since each start and each training counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from accrete_model.config import EngineConfig
from accrete_model.input_spec import InputSpec
from accrete_model.loaded_version import load
from accrete_model.reader import read_card
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
    "model": {"backbone": "efficientnet_lite0", "input_size": 32, "channels": 3},
    "trigger": {"min_examples": 1, "refresh_examples": 1, "settle_s": 0.0},
    "memory": {"kind": "per_class", "size": 60},
    "learner": {"poll_s": 0.05},
}
FORM = str(InputSpec((32, 32, 3), "uint8", 36))
BY_HAND: dict[str, Any] = {"idle_s": 3600.0, "margin": -1.0, "epochs": 1}
"""What it learns in one epoch is kept, whatever it is worth."""


def photographs(label: int, count: int, start: int = 0) -> list[Example]:
    images, _ = scans_of([label], count, start)
    large = images.repeat(4, axis=1).repeat(4, axis=2).repeat(3, axis=3)
    return [Example(id=f"{label}-{start + n}", label=f"digit {label}", content=x) for n, x in enumerate(large)]


class World:
    """A store, and one learner at a time."""

    def __init__(self, folder: Path, config: StoreConfig) -> None:
        folder.mkdir()
        self.folder = folder
        self._config = config
        self.store = Store.connect(config, HOLDOUT, data_dir=folder)
        self.store.bind_model(FORM)
        self.learner: RunningLearner | None = None

    def start(self, **deep: object) -> None:
        """Ends the learner and starts one with other settings of deep steps."""
        self.close_learner()
        self.learner = RunningLearner(self.folder, self.store, self._config, **OPTIONS, deep=BY_HAND | deep)

    def teach(self, examples: list[Example]) -> VersionRecord:
        self.store.pending.add(examples)
        return self.settled()

    def settled(self) -> VersionRecord:
        """Waits for a version of all that is pending and nothing that was deleted, on the features' backbone."""

        def look() -> VersionRecord | None:
            if self.store.pending.total().examples:
                return None
            newest = self.store.registry.latest_ready()
            if newest is None or newest.revision != self.store.registry.state().revision:
                return None
            same = self.backbone(newest) == self.store.features.backbone()
            return newest if same else None

        return until(look, self.log)  # type: ignore[no-any-return]

    def told(self, beginning: str) -> str:
        """Waits for what is said of a deep step to begin so."""
        return until(  # type: ignore[no-any-return]
            lambda: (text := self.store.deep.text()).startswith(beginning) and text,
            lambda: f"{self.store.deep.text()!r}\n{self.log()}",
        )

    def backbone(self, record: VersionRecord) -> str:
        return read_card(self.files(record)).frozen

    def files(self, record: VersionRecord) -> Path:
        return self.folder / "versions" / f"v{record.version:06d}"

    def accuracy(self, record: VersionRecord, examples: list[Example]) -> float:
        loaded = load(self.files(record), record.version, EngineConfig(device="cpu"))
        try:
            found = loaded.classifier()
            best = found(loaded.features(np.stack([one.tensor for one in examples]))).argmax(axis=1)
            return float(np.mean([found.labels[row] == one.label for row, one in zip(best, examples, strict=True)]))
        finally:
            loaded.close()

    def log(self) -> str:
        return "" if self.learner is None else self.learner.log()

    def close_learner(self) -> None:
        if self.learner is not None:
            self.learner.kill()


@pytest.fixture
def world(shared_store: SharedStore, tmp_path: Path) -> Iterator[World]:
    one = World(tmp_path / "data", shared_store.config())
    yield one
    one.close_learner()
    one.store.close()


def test_a_deep_step_from_its_request_to_the_end_of_its_backbone(world: World):
    store = world.store
    world.start()
    first = world.teach([one for label in range(4) for one in photographs(label, 40)])
    frozen = world.backbone(first)
    fresh = [one for label in range(4) for one in photographs(label, 40, start=100)]

    store.deep.request()
    world.told("training, ")
    between = world.teach(photographs(4, 10))
    assert between.labels[-1] == "digit 4", "the loop goes on learning"
    assert world.backbone(between) == frozen
    world.told("kept, ")
    kept = world.settled()
    tuned = world.backbone(kept)
    assert tuned == store.features.backbone() != frozen
    assert kept.reason.startswith("deep step: ")
    assert kept.labels == between.labels
    assert len(store.features.of("digit 4", "float16")[0]) == 10, "it was caught up with"
    assert set(store.features.unseen_below()) == {f"digit {label}" for label in range(4)}
    assert kept.class_examples["digit 0"] == 8, "no image measures that was trained on"
    assert kept.class_examples["digit 4"] == 10
    assert world.accuracy(kept, fresh) > 0.8
    assert world.accuracy(between, fresh) > 0.8, "the version before is whole, too"

    world.start()
    after = world.teach(photographs(5, 5))
    assert world.backbone(after) == tuned, "a restart goes on with it"
    assert after.class_examples["digit 0"] == 8
    assert "backbone.changed" not in world.log().rpartition("learner.started")[2]

    store.deep.request()
    world.told("starting PyTorch")
    assert store.control.delete_examples(["0-0"]).deleted == 1
    assert "examples were deleted" in world.told("given up: ")
    assert "0-0" not in store.features.of("digit 0", "float16")[0]
    assert world.backbone(world.settled()) == tuned
    world.told("starting PyTorch")  # what was asked for by hand begins anew

    world.start(steps="off")
    back = until(lambda: store.features.backbone() == frozen and world.settled(), world.log)
    assert world.backbone(back) == frozen
    assert store.features.unseen_below() == {}
    assert back.labels == after.labels


def test_a_deep_step_starts_by_itself_at_rest_and_changes_nothing_where_it_is_not_better(world: World):
    store = world.store
    world.start(idle_s=0.2, margin=1.0)
    learned = world.teach([one for label in range(4) for one in photographs(label, 25)])
    assert "it must surely gain something, and 100 points (1 epochs of 80 images)" in world.told("dropped, ")
    (event,) = (event for event in store.events.read("0", count=10_000) if event.kind == "rejected")
    assert event.body["reason"].startswith("deep step: dropped, ")
    assert store.registry.latest_ready() == learned
    assert store.features.backbone() == world.backbone(learned)
    assert store.features.unseen_below() == {}
    assert (store.deep.last().examples, store.deep.last().classes) == (100, 4)
