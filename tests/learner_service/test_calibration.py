"""The margin between prototypes and trained classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from accrete_learner_service.config import GateConfig, LearnerServiceConfig
from accrete_learner_service.evaluation.measure import ENGINE, Handover, compute_features, measure
from accrete_learner_service.provisional import updater
from accrete_learner_service.provisional.calibration import LOWEST, Calibration, allowed_drop, margin_of
from accrete_model.artifact_store import ArtifactStore
from accrete_model.loaded_version import LoadedVersion, load
from accrete_model.scoring import PrototypeSet
from accrete_storage.examples.example import Example
from accrete_storage.store import Store
from accrete_storage.versions.commit import Commit
from benchmarks.waiting import until
from tests.learner_service.helpers import RunningLearner, digits, record
from tests.model.artifacts import Recipe, write_artifact

Start = Callable[..., RunningLearner]
WRONG = -np.inf


@pytest.mark.parametrize(("max_drop", "lost"), [(0.1, 9), (0.05, 4), (0.01, 0)])
def test_the_holdout_loses_no_more_than_is_allowed(max_drop, lost):
    leads = np.random.default_rng(1).permutation(np.arange(100)).astype(np.float32)
    assert (leads > margin_of(leads, max_drop)).sum() == lost


def test_images_that_did_not_set_the_margin_lose_no_more_than_is_allowed():
    leads = np.random.default_rng(2).standard_normal((2_000, 60))
    lost = [row[0] > margin_of(row[1:], 0.05) for row in leads]
    assert np.mean(lost) == pytest.approx(0.05, abs=0.015)


def test_an_answer_that_is_wrong_cannot_be_lost():
    leads = np.array([5, 4, WRONG, WRONG, WRONG, WRONG, WRONG, WRONG, WRONG], np.float32)
    assert margin_of(leads, 0.2) == 4
    assert margin_of(leads, 0.3) == LOWEST


@pytest.mark.parametrize(("leads", "margin"), [([], 0.0), ([-0.4, -0.2], 0.0), ([-0.4, 0.3], 0.3)])
def test_too_few_examples_give_the_prototypes_nothing_extra(leads: Sequence[float], margin):
    assert margin_of(np.array(leads, np.float32), 0.02) == pytest.approx(margin)


@pytest.mark.parametrize(
    ("new", "known", "gate", "allowed"),
    [
        (2, 18, GateConfig(), 0.05),
        (1, 99, GateConfig(), 0.01),
        (2, 18, GateConfig(max_old_drop=0.02), 0.02),
        (2, 18, GateConfig(enabled=False, max_old_drop=0.02), 0.05),
        (1, 0, GateConfig(), 0.05),
    ],
)
def test_provisional_classes_may_cost_what_is_set_what_the_gate_allows_and_their_share(new, known, gate, allowed):
    config = LearnerServiceConfig(gate=gate, provisional_max_drop=0.05)
    assert allowed_drop(config, new=new, known=known) == pytest.approx(allowed)


def test_on_real_digits_new_classes_cost_the_old_ones_no_more_than_allowed_and_are_told_from_them(
    start: Start, store: Store, data_dir: Path
):
    learner = start(
        training={"base_epochs": 12},
        trigger={"min_examples": 100, "first_classes": 6},
        learner={"provisional_max_drop": 0.05},
    )
    for label in range(6):
        store.pending.add(digits(label, 100))
    learner.version(1)
    for label in range(6, 10):
        store.pending.add(digits(label, 10))
    with_all = until(lambda: _with_prototypes(store, 4), "four prototypes")
    loaded = load(ArtifactStore(data_dir / "versions").path(1), 1, ENGINE)
    held = [example for label in range(6) for example in store.memory.holdout(f"digit {label}")]
    alone, beside = _accuracy(loaded, held), _accuracy(loaded, held, with_all)
    assert alone > 0.9
    assert alone - 0.05 <= beside < alone
    unseen = [example for label in range(6) for example in digits(label, 70, start=100)]
    assert _accuracy(loaded, unseen, with_all) > _accuracy(loaded, unseen) - 0.05 - 0.08  # three standard errors
    strangers = [example for label in range(6, 10) for example in digits(label, 70, start=100)]
    assert _accuracy(loaded, strangers, with_all) > 0.3

    unknown = loaded.unknown_below(0.1)
    assert 0.05 < unknown.rate <= 0.1
    alarms, false_alarms = (_unknown(loaded, examples, unknown.nearness) for examples in (strangers, unseen))
    assert _unknown(loaded, held, unknown.nearness) <= 0.1
    assert false_alarms < 0.25
    assert alarms > 2 * false_alarms


def _with_prototypes(store: Store, count: int) -> PrototypeSet | None:
    found = store.prototypes.all(1)
    if len(found.by_label) < count:
        return None
    vectors = np.stack([prototype.vector for prototype in found.by_label.values()])
    return PrototypeSet(labels=tuple(found.by_label), vectors=vectors, margin=found.margin)


def _unknown(loaded: LoadedVersion, examples: Sequence[Example], below: float) -> float:
    return float((loaded.classifier().nearness(compute_features(loaded, examples)) < below).mean())


def _accuracy(loaded: LoadedVersion, examples: Sequence[Example], prototypes: PrototypeSet | None = None) -> float:
    classifier = loaded.classifier(prototypes=prototypes)
    best = classifier(compute_features(loaded, examples)).argmax(axis=1)
    return float(
        np.mean([classifier.labels[row] == example.label for row, example in zip(best, examples, strict=True)])
    )


def test_the_holdout_is_looked_at_by_and_by_and_anew_when_something_was_deleted(store: Store, tmp_path: Path):
    labels, shape = tuple(f"digit {n}" for n in range(6)), (8, 8, 1)
    loaded = load(write_artifact(tmp_path / "v", Recipe(labels=labels, shape=shape, head="cosine")), 1, ENGINE)
    _commit_holdout(store, {label: digits(n, 20) for n, label in enumerate(labels)})
    calibration = Calibration(store, loaded)
    calibration.restart(labels)
    vectors, turns = [np.eye(6, dtype=np.float32)[0]], []
    while not calibration.complete:
        turns.append(calibration.margin(vectors, 0.1))
        calibration.go_on(0)
    assert len(turns) == 6
    assert turns[0] == 0
    whole = calibration.margin(vectors, 0.1)
    at_once = Calibration(store, loaded)
    at_once.restart(labels)
    at_once.go_on(60)
    assert at_once.complete
    assert at_once.margin(vectors, 0.1) == whole
    calibration.restart(labels)
    calibration.go_on(60)
    assert calibration.margin(vectors, 0.1) == whole


def test_what_a_step_has_computed_of_the_holdout_is_not_computed_again(store: Store, tmp_path: Path):
    labels = tuple(f"digit {n}" for n in range(6))
    files = write_artifact(tmp_path / "v", Recipe(labels=labels, shape=(8, 8, 1), head="cosine"))
    _commit_holdout(store, {label: digits(n, 20) for n, label in enumerate(labels)})
    held = {label: store.memory.holdout(label) for label in labels}
    handover, margins = Handover(), []
    handover.put(1, measure(files, 1, held, lambda: None).features)
    assert handover.take(2) == {}
    for computed in (handover.take(1), {}):
        loaded = load(files, 1, ENGINE)
        calibration = Calibration(store, loaded, computed)
        if computed:
            loaded.close()  # it computes nothing any more
        calibration.restart(labels)
        calibration.go_on(60)
        margins.append(calibration.margin([np.eye(6, dtype=np.float32)[0]], 0.1))
    assert margins[0] == margins[1] != 0
    assert handover.take(1) == {}


def test_many_new_classes_are_made_provisional_by_and_by_so_that_nothing_else_waits_for_them(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """What goes live, is deleted or ends the process meanwhile is seen between two turns."""
    monkeypatch.setattr(updater, "SLICE_S", 0)
    artifacts = ArtifactStore(tmp_path / "versions")
    artifacts.publish(write_artifact(tmp_path / "v", Recipe(labels=("digit 0",), shape=(8, 8, 1), head="cosine")), 1)
    _commit_holdout(store, {"digit 0": digits(0, 20)})
    for label in range(1, 5):
        store.pending.add(digits(label, 5))
    keeper = updater.PrototypeUpdater(store, artifacts, Handover(), LearnerServiceConfig())
    for turn in range(1, 5):
        keeper.update()
        assert list(store.prototypes.all(1).by_label) == [f"digit {label}" for label in range(1, turn + 1)]
    keeper.close()
    assert [event.kind for event in store.events.read("0")].count("provisional") == 4


def _commit_holdout(store: Store, examples: dict[str, list[Example]]) -> None:
    for own in examples.values():
        store.pending.add(own)
    lease = store.acquire_lease("test", 60)
    assert lease is not None
    upto = {label: store.pending.read(label)[-1].position for label in examples}
    store.stage("step", {}, examples)
    made = record(1, labels=list(examples), learned=upto)
    commit = Commit(
        epoch=lease.epoch, revision=0, step_id="step", record=made, consumed=upto, per_class=5, event={"version": 1}
    )
    store.commit(commit)
