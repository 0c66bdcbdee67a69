"""What a step takes over from the files of an earlier version."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from accrete_learner import export
from accrete_learner.backbones import Backbone, build, weights
from accrete_learner.heads import SHARED
from accrete_learner.heads.closed_form import added_rows, keep_rows
from accrete_learner.methods.base import Method
from accrete_learner.trainer.job import Job
from accrete_model import files
from accrete_model.reader import read_card


def read_backbone(job: Job, method: Method, generator: torch.Generator) -> Backbone:
    """Return the backbone that the step starts from, on the CPU.

    It has the weights of the parent, else of the training that the job takes over, else those that its configuration
    names or random ones.

    Raises:
        ValueError: when the parent is another network than the job's, when weights do not fit the network, or when the
            network of a first step could not be exported.
        OSError: when a file cannot be read.
    """
    if job.parent is not None:
        return _parents_backbone(Path(job.parent), job, generator)
    if job.trained is not None:
        backbone = build(job.model, last_relu=method.last_relu)
        weights.load(backbone, load_file(Path(job.trained) / files.WEIGHTS_FILE), source=job.trained)
        return backbone
    backbone = build(job.model, generator=generator, last_relu=method.last_relu)
    export.check_exportable(backbone, job.model, last_relu=method.last_relu)
    return backbone


def _parents_backbone(parent: Path, job: Job, generator: torch.Generator) -> Backbone:
    card = read_card(parent)
    if (card.backbone, card.spec.shape) != (job.model.backbone, job.model.input_shape):
        raise ValueError(
            f"the parent is a {card.backbone} for {list(card.spec.shape)}, "
            f"the configuration asks for {job.model.backbone} for {list(job.model.input_shape)}: "
            "set [model] back, or begin with another data_dir"
        )
    # The parent's weights replace those that the first step started from, whose file may be gone by now.
    backbone = build(
        replace(job.model, weights=""), generator=generator, last_relu=card.last_relu, features=card.features
    )
    file = parent / files.WEIGHTS_FILE
    weights.load(backbone, load_file(file), source=str(file))
    return backbone


def read_head(job: Job, device: torch.device) -> dict[str, Tensor] | None:
    """Return the parent's head with the rows of the labels that stay, in their new order, or None when none stays.

    Rows of classes that were merged since are averaged: the step goes on from there with the examples of both.

    Raises:
        ValueError: when the job names a row that the head does not have.
        OSError: when the file cannot be read.
    """
    if job.parent is None or not job.old_count:
        return None
    head = load_file(Path(job.parent) / files.HEAD_FILE, device=str(device))
    known = len(head["weight"])
    if not all(0 <= row < known for row in job.parent_rows):
        raise ValueError(f"parent_rows has a row outside 0 to {known - 1}")
    if not all(0 <= row < known for row, _ in job.merged_rows):
        raise ValueError(f"merged_rows has a row outside 0 to {known - 1}")
    rows = torch.tensor(job.parent_rows, device=device)
    of = Counter(into for _, into in job.merged_rows)

    def merged(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():  # the step in which a class came, which is its first row's
            return tensor[rows]
        total = added_rows(tensor, job.merged_rows)
        for into, others in of.items():
            total[into] /= 1 + others
        return total[rows]

    return {name: tensor if name in SHARED else merged(tensor) for name, tensor in head.items()}


def read_trained_head(job: Job, device: torch.device) -> dict[str, Tensor] | None:
    """Return the head of the training that the job takes over, or None when it takes over none.

    Raises:
        OSError: when the file cannot be read.
    """
    return None if job.trained is None else load_file(Path(job.trained) / files.HEAD_FILE, device=str(device))


def read_statistics(job: Job, device: torch.device) -> dict[str, Tensor] | None:
    """Return what a closed-form parent kept of all its examples, or None where it kept nothing.

    Raises:
        OSError: when the file cannot be read.
    """
    file = None if job.parent is None else Path(job.parent) / files.STATISTICS_FILE
    if file is None or not file.exists():
        return None
    statistics = load_file(file, device=str(device))
    return keep_rows(statistics, list(job.parent_rows), job.merged_rows)
