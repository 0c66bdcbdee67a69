"""The folder of one step as the trainer takes it.

Shapes: n new examples, m exemplars; each has the model's input shape and type.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from accrete_learner.trainer import job as files
from accrete_learner.trainer.job import Job
from accrete_learner_service.config import LearnerServiceConfig
from accrete_learner_service.errors import StepFailed
from accrete_learner_service.step.inputs import Inputs
from accrete_storage.examples.example import Example

Tensors = NDArray[Any]


def write_job(folder: Path, inputs: Inputs, config: LearnerServiceConfig, parent_files: Path | None) -> None:
    """Write the step's folder for the trainer, job.json last. The hold-out is not for the trainer.

    Raises:
        StepFailed: an example does not have the model's input form.
        OSError: the disk is full or not there.
    """
    # The hold-out too: a misfit is told now, not after the training.
    for example in chain(inputs.new, inputs.exemplars, *inputs.holdout.values()):
        _check_form(example, config)
    save_file(_tensors(inputs), folder / files.INPUTS_FILE)
    rows: dict[str, list[int]] = {}
    for row, label in enumerate(inputs.parent.labels if inputs.parent else ()):
        rows.setdefault(label, []).append(row)
    Job(
        version=inputs.version,
        labels=inputs.labels,
        old_count=inputs.old_count,
        # With every class forgotten there is nothing to continue, and what the weights remember of them must go.
        parent=str(parent_files) if parent_files is not None and inputs.old_count else None,
        parent_rows=tuple(rows[label][0] for label in inputs.old_labels),
        merged_rows=tuple((row, rows[label][0]) for label in inputs.old_labels for row in rows[label][1:]),
        method=config.method,
        model=config.model,
        training=config.training,
        memory=config.memory,
    ).write(folder)


def _tensors(inputs: Inputs) -> dict[str, Tensors]:
    row = {label: row for row, label in enumerate(inputs.labels)}
    tensors: dict[str, Tensors] = {}
    for x, y, examples in (
        (files.INPUT_NEW_X, files.INPUT_NEW_Y, inputs.new),
        (files.INPUT_EXEMPLAR_X, files.INPUT_EXEMPLAR_Y, inputs.exemplars),
    ):
        if examples:
            tensors[x] = np.stack([example.tensor for example in examples])
            tensors[y] = np.array([row[example.label] for example in examples], np.int64)
    if inputs.exemplars:
        tensors[files.INPUT_EXEMPLAR_RANK] = np.array(list(_ranks(inputs.exemplars)), np.int64)
    return tensors


def _check_form(example: Example, config: LearnerServiceConfig) -> None:
    shape, dtype = config.model.input_shape, config.model.input_dtype
    # An exemplar that a step made may have been stored with more digits than an image has.
    if example.tensor.shape != shape or example.tensor.dtype.name not in (dtype, "float16"):
        got = f"{example.tensor.dtype} {list(example.tensor.shape)}"
        raise StepFailed(f"example {example.id!r} is {got}; the network takes {dtype} {list(shape)}")


def _ranks(exemplars: Sequence[Example]) -> Iterator[int]:
    """Yield the rank of each exemplar within its class, where classes come one after the other."""
    rank, before = 0, None
    for example in exemplars:
        rank = rank + 1 if example.label == before else 0
        before = example.label
        yield rank
