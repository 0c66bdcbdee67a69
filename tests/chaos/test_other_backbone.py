"""Another frozen backbone: what is kept is learned anew on it, whole or not at all, wherever the learner is killed."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

from accrete_model.files import HEAD_FILE
from accrete_model.reader import read_card
from accrete_storage.examples.example import Example
from accrete_storage.versions.record import VersionRecord
from benchmarks.waiting import until
from tests.chaos.processes import Place
from tests.learner_service.helpers import digits
from tests.support.store import SharedStore

POINTS = ("fsync.before", "rename.after", "stage.after", "commit.before", "commit.after")
"""What a step writes, in this order; the last is after all is done."""
KEPT = 5
"""Exemplars of a class, as the tests' configuration has it."""


def extractor(path: Path, seed: int, length: int, *, blind: bool = False) -> Path:
    """A network from images [1, 8, 8] to features, which have nothing to do with what a blind one is shown."""
    matrix = np.random.default_rng(seed).standard_normal((64, length)).astype(np.float32)
    last = helper.make_node("Identity", ["product"], ["features"])
    if blind:
        matrix, last = 3000 * matrix, helper.make_node("Sin", ["product"], ["features"])
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["image"], ["flat"], axis=1),
            helper.make_node("MatMul", ["flat", "matrix"], ["product"]),
            last,
        ],
        "test",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ("N", 1, 8, 8))],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(matrix, "matrix")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


class Shop:
    """A store and a folder, and learners on one backbone or another."""

    def __init__(self, url: str, name: str, folder: Path) -> None:
        self.place = Place(url, f"{folder.name}-{name}", folder / name, folder / "kept")
        self.place.store.bind_model("uint8 [8, 8, 1]")

    def learner(self, backbone: Path, failpoints: str = "", **gate: object) -> None:
        self.running = self.place.learner(
            failpoints,
            gate=gate,
            method={"name": "analytic"},
            model={"backbone": f"onnx:{backbone}", "mean": (0.5,), "std": (0.5,), "shorter_side": 0},
            trigger={"min_examples": 1, "refresh_examples": 1},
        )

    def learned(self, after: int = 0) -> VersionRecord:
        """Waits for a version above a number, with nothing pending."""

        def look() -> VersionRecord | None:
            found = self.place.store.registry.latest_ready()
            return found if found and found.version > after and not self.place.store.pending.total().examples else None

        return until(look, self.place.log)  # type: ignore[no-any-return]

    def head(self, record: VersionRecord) -> dict[str, np.ndarray]:
        found = load_file(self.place.versions / f"v{record.version:06d}" / HEAD_FILE)
        return dict(zip(record.labels, found["weight"], strict=True))

    def backbone(self, record: VersionRecord) -> str:
        return read_card(self.place.versions / f"v{record.version:06d}").frozen


@pytest.fixture
def shops(shared_store: SharedStore, tmp_path: Path) -> Iterator[tuple[Shop, Shop]]:
    both = (Shop(shared_store.url, "changed", tmp_path), Shop(shared_store.url, "fresh", tmp_path))
    yield both
    for shop in both:
        shop.place.close()


def test_another_backbone_is_taken_up_with_the_examples_that_are_kept_wherever_it_is_killed(
    shops: tuple[Shop, Shop], tmp_path: Path
):
    changed, fresh = shops
    store = changed.place.store
    one, two = extractor(tmp_path / "one.onnx", 1, 24), extractor(tmp_path / "two.onnx", 2, 40)
    store.pending.add(digits(0, 12) + digits(1, 12))
    changed.learner(one)
    first = changed.learned()
    before, features = changed.backbone(first), store.features.of("digit 0", "float16")[1]
    assert features.shape == (12, 24)
    assert changed.running.stop() == 0

    for point in POINTS[:-1]:
        changed.learner(two, f"{point}=kill")
        assert changed.running.ended() == -signal.SIGKILL, changed.place.log()
        changed.place.lease_runs_out()
        assert store.registry.latest_ready() == first
        assert store.features.backbone() == before
        assert np.array_equal(store.features.of("digit 0", "float16")[1], features)
    changed.learner(two, f"{POINTS[-1]}=kill")
    assert changed.running.ended() == -signal.SIGKILL, changed.place.log()
    changed.place.lease_runs_out()
    second = changed.learned(first.version)
    assert changed.backbone(second) == store.features.backbone() != before
    assert store.features.of("digit 0", "float16")[1].shape == (KEPT, 40)
    said = [event.body["reason"] for event in store.events.read("0", count=10_000) if event.kind == "phase"]
    assert "the backbone is another: 10 examples are learned anew, 14 are lost, for none is kept" in said

    kept = [one for label in ("digit 0", "digit 1") for one in store.memory.exemplars(label)]
    more: list[Example] = digits(2, 4)
    store.pending.add(more)
    changed.learner(two)
    last = changed.learned(second.version)
    fresh.place.store.pending.add(kept + more)
    fresh.learner(two)
    wanted = fresh.head(fresh.learned())
    found = changed.head(last)
    assert found.keys() == wanted.keys()
    for label, row in wanted.items():
        assert np.abs(found[label] - row).max() < 1e-5 * np.abs(row).max()


def test_a_backbone_that_is_worse_is_refused_with_both_accuracies_unless_it_is_forced(
    shops: tuple[Shop, Shop], tmp_path: Path
):
    shop, _ = shops
    store = shop.place.store
    one, blind = extractor(tmp_path / "one.onnx", 1, 24), extractor(tmp_path / "blind.onnx", 2, 40, blind=True)
    store.pending.add(digits(0, 12) + digits(1, 12))
    shop.learner(one, enabled=True, min_holdout=10)
    first = shop.learned()
    before = store.features.backbone()
    assert shop.running.stop() == 0

    shop.learner(blind, enabled=True, min_holdout=10)
    refused = until(lambda: [one for one in store.registry.versions() if one.state == "rejected"], shop.place.log)
    told = f"onnx:{blind} is not taken up: accuracy on the old classes went from 1.000 on 24 examples to "
    assert refused[0].reason.startswith(told)
    assert refused[0].reason.endswith("a drop of 0.1 is allowed; gate.enabled = false takes it up all the same")
    assert store.features.backbone() == before
    more: list[Example] = digits(2, 4)
    store.pending.add(more)  # what is taught goes on being learned, on the backbone in use
    second = shop.learned(refused[0].version)
    assert (shop.backbone(second), second.new_labels) == (shop.backbone(first), ["digit 2"])
    assert store.features.of("digit 2", "float16")[1].shape == (4, 24)
    assert len([one for one in store.registry.versions() if one.state == "rejected"]) == 1
    assert shop.running.stop() == 0

    shop.learner(blind, enabled=False)
    assert shop.backbone(shop.learned(second.version)) == store.features.backbone() != before
