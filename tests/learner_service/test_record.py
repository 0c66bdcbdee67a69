"""What the registry is told about a step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from accrete_learner.metrics import Tally
from accrete_learner.trainer.job import EXEMPLARS_FILE
from accrete_learner_service.step.inputs import Inputs
from accrete_learner_service.step.record import build_record, lineage, read_exemplars, summarise_step
from accrete_storage.examples.encoded_image import EncodedImage
from accrete_storage.examples.example import Example
from accrete_storage.versions.record import VersionRecord
from tests.learner_service.helpers import digits, record

ZERO, ONE, TWO = "digit 0", "digit 1", "digit 2"


def inputs(versions: list[VersionRecord], **changes: object) -> Inputs:
    """A step that adds digit 2, and new examples of digit 0, to a version that knows digits 0 and 1."""
    fields: dict[str, Any] = {
        "revision": 4,
        "version": 9,
        "parent": versions[-1],
        "versions": versions,
        "labels": (ZERO, ONE, TWO),
        "old_count": 2,
        "new": [*digits(0, 2, 10), *digits(2, 3)],
        "exemplars": [*digits(0, 2), *digits(1, 2)],
        "holdout": {},
        "consumed": {ZERO: "5-0", TWO: "6-0"},
        "counts": {ZERO: 2, TWO: 3},
    }
    return Inputs(**(fields | changes))


def tally(hits: int) -> Tally:
    return Tally(hits=hits, total=10)


def parent(**changes: object) -> VersionRecord:
    known = {"labels": [ZERO, ONE], "learned": {ZERO: "1-0", ONE: "2-0"}, "since": {ZERO: 1, ONE: 1}}
    return record(1, **(known | changes))


def test_what_was_learned_adds_up_over_versions():
    step = inputs([parent()])
    accuracy = summarise_step(step, {})
    made = build_record(step, {}, accuracy, method="icarl", stage_seconds={}, step_seconds=1.0, digest="")
    assert made.learned == {ZERO: "5-0", ONE: "2-0", TWO: "6-0"}
    assert made.since == {ZERO: 1, ONE: 1, TWO: 9}
    assert (made.parent, made.revision, made.new_labels) == (1, 4, [TWO])


def test_a_forgotten_class_leaves_no_trace_in_the_next_record():
    step = inputs([parent()], labels=(ONE, TWO), old_count=1, new=digits(2, 3), consumed={TWO: "6-0"})
    accuracy = summarise_step(step, {})
    made = build_record(step, {}, accuracy, method="icarl", stage_seconds={}, step_seconds=1.0, digest="")
    assert (set(made.learned), set(made.since)) == ({ONE, TWO}, {ONE, TWO})


def test_accuracy_is_told_for_old_and_new_classes_beside_earlier_versions():
    first = parent(accuracy={"all": 0.9}, class_accuracy={ZERO: 1.0, ONE: 0.8})
    accuracy = summarise_step(inputs([first]), {ZERO: tally(7), ONE: tally(9), TWO: tally(8)})
    assert (accuracy.all, accuracy.old, accuracy.new, accuracy.examples) == (0.8, 0.8, 0.8, 30)
    assert accuracy.average_incremental == pytest.approx(0.85)
    assert accuracy.forgetting == pytest.approx(((1.0 - 0.7) + (0.8 - 0.9)) / 2)


def test_without_a_holdout_nothing_is_claimed():
    accuracy = summarise_step(inputs([parent(accuracy={"all": None})]), {})
    assert accuracy.to_dict() == dict.fromkeys(("all", "old", "new", "average_incremental", "forgetting")) | {
        "examples": 0,
        "new_examples": 0,
    }


def test_a_class_taught_again_is_not_compared_with_what_it_was_before_it_was_forgotten():
    first = parent(class_accuracy={ZERO: 1.0})
    second = record(2, parent=1, labels=[ONE, ZERO], class_accuracy={ZERO: 0.5}, since={ONE: 1, ZERO: 2})
    accuracy = summarise_step(inputs([first, second], labels=(ONE, ZERO, TWO)), {ZERO: tally(5)})
    assert accuracy.forgetting == 0.0


def test_the_lineage_leaves_out_rejected_versions():
    versions = [record(1), record(2, parent=1, state="rejected"), record(3, parent=1)]
    assert [known.version for known in lineage(versions[2], versions)] == [1, 3]


def test_an_exemplar_stays_as_it_is_stored_unless_the_step_changed_its_pixels(tmp_path: Path):
    grey = np.linspace(0, 255, 64 * 64).reshape(64, 64, 1).astype(np.uint8)
    encoded = EncodedImage.of(grey, 90)
    assert encoded is not None
    sources = [Example(id=f"2-{n}", label=TWO, content=encoded) for n in range(3)]
    seen = encoded.decode()
    made: list[list[NDArray[Any]]] = [[seen, 255 - seen], [seen.astype(np.float16)]]
    contents = []
    for images in made:
        count = len(images)
        tensors = {"x": np.stack(images), "y": np.full(count, 2), "source": np.arange(count)}
        save_file(tensors | {"shown": np.full((count, 1), -1)}, tmp_path / EXEMPLARS_FILE)
        chosen = read_exemplars(tmp_path, inputs([parent()], new=sources, exemplars=[]))[TWO]
        contents += [example.content for example in chosen]
    assert contents[0] is encoded
    changed, wider = contents[1:]
    assert isinstance(wider, np.ndarray)
    assert wider.dtype == np.float16
    np.testing.assert_array_equal(wider, seen)
    np.testing.assert_array_equal(changed, 255 - seen)


def test_exemplars_keep_the_ids_of_the_examples_they_came_from(tmp_path: Path):
    step = inputs([parent()])
    pool = [*step.exemplars, *step.new]
    source = np.array([1, 4, 8, -1], np.int64)
    x = np.stack([pool[max(index, 0)].tensor for index in source])
    shown = np.array([[-1, -1], [-1, -1], [-1, -1], [6, 7]], np.int64)
    tensors = {"x": x, "y": np.array([0, 0, 2, 2], np.int64), "source": source, "shown": shown}
    save_file(tensors, tmp_path / EXEMPLARS_FILE)
    chosen = read_exemplars(tmp_path, step)
    assert {label: [example.id for example in examples] for label, examples in chosen.items()} == {
        ZERO: ["0-1", "0-10"],
        TWO: ["2-2", "synthesised-9-3"],
    }
    assert [sorted(example.made_from) for example in chosen[TWO]] == [[], [pool[6].id, pool[7].id]]


def test_what_is_made_of_a_made_exemplar_is_made_of_its_examples_too(tmp_path: Path):
    step = inputs([parent()])
    collage = replace(step.exemplars[0], made_from=frozenset({"x", "y"}))
    step = replace(step, exemplars=[collage, *step.exemplars[1:]])
    tensors = {"x": collage.tensor[None], "y": np.zeros(1, np.int64), "source": np.full(1, -1)}
    save_file(tensors | {"shown": np.array([[0, len(step.exemplars)]])}, tmp_path / EXEMPLARS_FILE)
    made = read_exemplars(tmp_path, step)[ZERO]
    assert [one.made_from for one in made] == [frozenset({"x", "y", collage.id, step.new[0].id})]


def test_a_class_that_may_keep_nothing_gets_an_empty_list(tmp_path: Path):
    assert read_exemplars(tmp_path, inputs([parent()])) == {ZERO: [], TWO: []}
