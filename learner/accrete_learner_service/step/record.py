"""The record of a version, its exemplars and its accuracy, made from a finished step."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from accrete_learner.metrics import Accuracy, Tally, class_accuracy, summarise
from accrete_learner.trainer import job as files
from accrete_learner_service.labels import learned_positions
from accrete_learner_service.step.inputs import Inputs
from accrete_storage.examples.example import Example
from accrete_storage.versions.record import VersionRecord


def build_record(
    inputs: Inputs,
    tallies: Mapping[str, Tally],
    accuracy: Accuracy,
    *,
    method: str,
    stage_seconds: Mapping[str, float],
    step_seconds: float,
    digest: str,
) -> VersionRecord:
    """Return the record of an accepted candidate whose published files have the digest."""
    parent = inputs.parent
    learned_so_far = learned_positions(inputs.versions)
    learned = {label: learned_so_far[label] for label in inputs.labels if label in learned_so_far}
    since = {} if parent is None else {label: parent.since[label] for label in inputs.old_labels}
    return VersionRecord(
        version=inputs.version,
        state="ready",
        # Without an old label the step started from nothing, so it has no parent to be compared with.
        parent=parent.version if parent is not None and inputs.old_count else 0,
        created_ms=int(time.time() * 1000),
        labels=list(inputs.labels),
        new_labels=list(inputs.new_labels),
        method=method,
        digest=digest,
        accuracy=accuracy.to_dict(),
        class_accuracy=class_accuracy(tallies),
        class_examples={label: tally.total for label, tally in tallies.items() if tally.total},
        step_seconds=step_seconds,
        stage_seconds=dict(stage_seconds),
        learned=learned | inputs.consumed,
        revision=inputs.revision,
        since=since | dict.fromkeys(inputs.new_labels, inputs.version),
        consumed=inputs.counts,
    )


def summarise_step(inputs: Inputs, tallies: Mapping[str, Tally]) -> Accuracy:
    """Return the candidate's accuracy on the hold-out, beside that of the versions it descends from."""
    line = lineage(inputs.parent if inputs.old_count else None, inputs.versions)
    since = inputs.parent.since if inputs.parent else {}
    return summarise(
        tallies,
        new_labels=inputs.new_labels,
        earlier_accuracy=[record.accuracy.get("all") for record in line],
        earlier_class_accuracy=[_of_old(record, inputs.old_labels, since) for record in line],
    )


def lineage(record: VersionRecord | None, versions: Sequence[VersionRecord]) -> list[VersionRecord]:
    """Return the record and those it descends from, oldest first."""
    by_number = {known.version: known for known in versions}
    line = []
    while record is not None:
        line.append(record)
        record = by_number.get(record.parent)
    return line[::-1]


def read_exemplars(folder: Path, inputs: Inputs) -> dict[str, list[Example]]:
    """Read the exemplars that the trainer chose or made, in rank order.

    They are those of each class with new examples, and of any other whose exemplars it made anew. An exemplar keeps the
    id and metadata of the example it came from, so that it can be deleted by id. One that was synthesised gets an id
    that says so, and the ids of all that it was made from.
    """
    chosen: dict[str, list[Example]] = {label: [] for label in inputs.labels if label in inputs.trained}
    path = folder / files.EXEMPLARS_FILE
    tensors: dict[str, Any] = load_file(path) if path.exists() else {}
    sources = [*inputs.exemplars, *inputs.new]
    for row, (tensor, y, source, shown) in enumerate(
        zip(*(tensors.get(key, ()) for key in ("x", "y", "source", "shown")), strict=True)
    ):
        label = inputs.labels[int(y)]
        parts = [sources[int(index)] for index in shown if index >= 0]
        made_from = frozenset(name for part in parts for name in (part.id, *part.made_from))
        made = Example(id=f"synthesised-{inputs.version}-{row}", label=label, content=tensor, made_from=made_from)
        chosen.setdefault(label, []).append(made if source < 0 else _with_pixels(sources[int(source)], tensor))
    return chosen


def _with_pixels(example: Example, tensor: NDArray[Any]) -> Example:
    """Return the example with these pixels; itself, as it is stored, when the step left them as they were."""
    same = tensor.dtype == example.tensor.dtype and np.array_equal(tensor, example.tensor)
    return example if same else replace(example, content=tensor)


def _of_old(record: VersionRecord, old_labels: Sequence[str], since: Mapping[str, int]) -> dict[str, float]:
    """Return the accuracy of the classes that are old now, without any of the same name that was forgotten since."""
    return {
        label: record.class_accuracy[label]
        for label in old_labels
        if label in record.class_accuracy and record.version >= since.get(label, 0)
    }
