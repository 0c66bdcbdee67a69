"""Classes that are renamed or merged while the learner is at work: a closed form, and a network that is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from accrete_learner.heads.closed_form import keep_rows
from accrete_learner.trainer.job import Job
from accrete_learner.trainer.parent import read_head
from accrete_learner_service.config import LearnerServiceConfig
from accrete_learner_service.step.inputs import read_inputs
from accrete_learner_service.step.job_folder import write_job
from accrete_model.files import HEAD_FILE
from accrete_storage.config import HoldoutConfig
from accrete_storage.examples.example import Example
from accrete_storage.store import Store
from accrete_storage.versions.commit import Commit
from benchmarks.waiting import until
from tests.learner_service import helpers
from tests.learner_service.helpers import RunningLearner, digits
from tests.learner_service.run_learner import config
from tests.learner_service.test_analytic import World, difference, vectors
from tests.support.store import SharedStore


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


def called(label: str, examples: Sequence[Example]) -> list[Example]:
    return [replace(one, label=label) for one in examples]


def test_a_class_of_a_closed_form_is_renamed_without_a_step(world: Callable[..., World]):
    one = world()
    before = one.teach([*vectors(0, 8), *called("zwei", vectors(2, 8))])
    head = one.head()
    one.store.renaming.rename("zwei", "digit 2")
    assert one.wait().version == before.version
    assert difference(one.head(), {"digit 2" if label == "zwei" else label: row for label, row in head.items()}) == 0
    newest = one.teach(vectors(2, 4, start=20))
    assert newest.new_labels == []
    assert "features.read" not in one.learner.log(), "what is in memory is renamed, too"
    other = world()
    other.teach([*vectors(0, 8), *vectors(2, 8)], vectors(2, 4, start=20))
    assert difference(one.head(), other.head()) < 1e-5


def test_a_merged_class_is_the_one_that_was_taught_under_one_label_from_the_start(world: Callable[..., World]):
    one, other = world(), world()
    several = [*vectors(0, 8), *vectors(1, 8), *vectors(2, 6), *called("zwei", vectors(2, 6, start=30))]
    one.teach(several)
    one.store.renaming.merge("zwei", "digit 2")
    merged = one.wait()
    assert merged.labels == ["digit 0", "digit 1", "digit 2"]
    assert merged.since["digit 2"] == 1
    other.teach([replace(example, label="digit 2") if example.label == "zwei" else example for example in several])
    assert difference(one.head(), other.head()) < 1e-5
    assert len(one.store.memory.exemplars("digit 2")) == 5
    one.restart()
    one.teach(vectors(1, 1, start=50))
    other.teach(vectors(1, 1, start=50))
    assert difference(one.head(), other.head()) < 1e-5


def test_the_next_step_of_a_network_learns_a_merged_class(
    start: Callable[..., RunningLearner], store: Store, data_dir: Path
):
    learner = start(trigger={"refresh_examples": 1})
    examples = [one for label in range(3) for one in digits(label, 30)]
    store.pending.add(examples)
    first = learner.version(1)
    store.renaming.merge("digit 2", "digit 0")
    holdout = len(store.memory.holdout("digit 0"))
    assert holdout > 10
    store.pending.add(digits(1, 10, start=30))
    second = learner.version(2)
    assert first.labels == ["digit 0", "digit 1", "digit 2"]
    assert (second.labels, second.new_labels, second.parent) == (["digit 0", "digit 1"], [], 1)
    assert second.class_examples["digit 0"] == len(store.memory.holdout("digit 0")) == 10, "the hold-out's limit"
    assert len(store.memory.exemplars("digit 0")) == 5
    assert not {one.id for one in store.memory.exemplars("digit 0")} & {
        one.id for one in store.memory.holdout("digit 0")
    }
    until(lambda: not store.pending.total().examples, learner.log)


def test_rows_of_merged_classes_go_to_the_trainer_as_one(store: Store, data_dir: Path):
    """Averaged in the head that training goes on from, added in the sums of a closed form."""
    for label in range(3):
        store.pending.add(digits(label, 3))
    lease = store.acquire_lease("me")
    assert lease is not None
    learned = {label: store.pending.read(label)[-1].position for label in store.pending.labels()}
    labels = ["digit 0", "digit 1", "digit 2"]
    store.stage("s1", {label: [entry.example for entry in store.pending.read(label)] for label in labels}, {})
    record = helpers.record(1, labels=labels, learned=learned, since=dict.fromkeys(labels, 1))
    commit = Commit(epoch=lease.epoch, revision=0, step_id="s1", record=record, consumed=learned, per_class=5)
    assert store.commit(commit)
    store.renaming.merge("digit 2", "digit 0")
    store.pending.add(digits(1, 2, start=9))
    inputs = read_inputs(store, {"digit 1"}, HoldoutConfig(share=0.0))
    assert (inputs.labels, inputs.old_count) == (("digit 0", "digit 1"), 2)
    assert len(inputs.exemplars) == 9
    settings: LearnerServiceConfig = config({})
    folder = data_dir / "job"
    folder.mkdir()
    write_job(folder, inputs, settings, folder)
    job = Job.read(folder)
    assert (job.parent_rows, job.merged_rows) == ((0, 1), ((2, 0),))
    rows = {"weight": torch.tensor([[2.0, 0.0], [5.0, 5.0], [0.0, 4.0]]), "bias": torch.tensor([1.0, 2.0, 3.0])}
    save_file(rows, folder / HEAD_FILE)
    head = read_head(job, torch.device("cpu"))
    assert head is not None
    np.testing.assert_array_equal(head["weight"], [[1.0, 2.0], [5.0, 5.0]])
    np.testing.assert_array_equal(head["bias"], [2.0, 2.0])
    sums = {"counts": torch.tensor([3.0, 5.0, 4.0]), "sums": rows["weight"], "gram": torch.eye(2)}
    kept = keep_rows(sums, job.parent_rows, job.merged_rows)
    np.testing.assert_array_equal(kept["counts"], [7.0, 5.0])
    np.testing.assert_array_equal(kept["sums"], [[2.0, 4.0], [5.0, 5.0]])
    np.testing.assert_array_equal(kept["gram"], np.eye(2))
