"""What a version answers to the hold-out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from accrete_learner.metrics import Tally
from accrete_learner_service.errors import Interrupted, StepFailed
from accrete_learner_service.evaluation.measure import ENGINE, measure, measuring_beside
from accrete_model.loaded_version import load
from accrete_storage.examples.example import Example
from tests.model.artifacts import Recipe, write_artifact


def holdout(counts: dict[str, int]) -> dict[str, list[Example]]:
    random = np.random.default_rng(1)
    # Most pixels black, so that images differ in more than noise.
    images = {label: 255 * (random.random((count, 4, 4, 3)) < 0.1).astype(np.uint8) for label, count in counts.items()}
    return {
        label: [Example(id=f"{label}-{n}", label=label, content=image) for n, image in enumerate(own)]
        for label, own in images.items()
    }


def nothing() -> None: ...


def test_hits_and_nearness_are_those_of_the_served_answers(tmp_path: Path):
    files, examples = (
        write_artifact(tmp_path / "v", Recipe(labels=("cat", "dog", "owl"))),
        holdout({"owl": 40, "cat": 3}),
    )
    measured = measure(files, 1, examples | {"dog": []}, nothing)
    loaded = load(files, 1, ENGINE)
    features = {label: loaded.features(np.stack([one.tensor for one in own])) for label, own in examples.items()}
    best = {label: loaded.classifier()(own).argmax(axis=1) for label, own in features.items()}
    assert measured.tallies == {
        "owl": Tally(hits=int((best["owl"] == 2).sum()), total=40),
        "cat": Tally(hits=int((best["cat"] == 0).sum()), total=3),
    }
    assert 0 < measured.tallies["owl"].hits < 40
    assert [one.id for one in measured.judged] == [one.id for label in ("owl", "cat") for one in examples[label]]
    assert [one.predicted for one in measured.judged[:40]] == [loaded.labels[row] for row in best["owl"]]
    highest = np.concatenate([loaded.classifier()(own).max(axis=1) for own in features.values()])
    np.testing.assert_allclose([one.probability for one in measured.judged], highest, rtol=1e-5)
    wanted = loaded.classifier().nearness(np.concatenate([features["owl"], features["cat"]]))
    np.testing.assert_allclose(measured.nearness, wanted, rtol=1e-5)


def test_a_label_without_a_holdout_of_its_own_is_no_answer(tmp_path: Path):
    files, examples = write_artifact(tmp_path / "v", Recipe(labels=("cat", "dog"))), holdout({"dog": 20})
    assert measure(files, 1, examples, nothing).tallies == {"dog": Tally(hits=20, total=20)}


def test_beside_something_else_it_measures_the_same(tmp_path: Path):
    files, examples = write_artifact(tmp_path / "v", Recipe()), holdout({"cat": 5, "dog": 5})
    with measuring_beside(files, 1, examples) as beside:
        assert beside.result().tallies == measure(files, 1, examples, nothing).tallies
    with measuring_beside(None, 0, {}) as beside:
        assert beside.result().tallies == {}


def test_what_nobody_waits_for_any_more_is_given_up(tmp_path: Path):
    """The block ends long before a measurement of a million images could."""
    files, examples = write_artifact(tmp_path / "v", Recipe()), holdout({"cat": 1})
    labels = {f"label {n}": examples["cat"] for n in range(1_000_000)}
    with pytest.raises(ZeroDivisionError), measuring_beside(files, 1, labels) as beside:
        raise ZeroDivisionError
    with pytest.raises(Interrupted):
        beside.result(timeout=0)


def test_a_version_that_computes_something_else_than_its_trainer_is_not_measured(tmp_path: Path):
    files = write_artifact(tmp_path / "v", Recipe())
    other = write_artifact(tmp_path / "other", Recipe(seed=1))
    (files / "graph.onnx").write_bytes((other / "graph.onnx").read_bytes())
    with pytest.raises(StepFailed, match=r"version 1 cannot be loaded: .*differ from the trainer's"):
        measure(files, 1, holdout({"cat": 1}), nothing)
