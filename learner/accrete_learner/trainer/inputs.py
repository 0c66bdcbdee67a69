"""What a step starts from, checked against its job."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from accrete_learner.config import IDENTITY
from accrete_learner.method_step import StepInputs
from accrete_learner.methods.base import Method
from accrete_learner.trainer import parent
from accrete_learner.trainer.job import (
    INPUT_EXEMPLAR_RANK,
    INPUT_EXEMPLAR_X,
    INPUT_EXEMPLAR_Y,
    INPUT_NEW_X,
    INPUT_NEW_Y,
    Job,
)
from accrete_learner.training.precision import resolve_precision


def read_inputs(
    tensors: Mapping[str, Tensor], job: Job, method: Method, generator: torch.Generator
) -> tuple[StepInputs, Tensor]:
    """Return the inputs of a step on the generator's device.

    Args:
        tensors: what inputs.safetensors holds, on any device.
        job: the step. The parent's files are read from where it says.
        method: as it runs.
        generator: source of the random numbers of a new backbone.

    Returns:
        The inputs, and int64 [m] for each of their exemplars its place in inputs.safetensors.

    Raises:
        ValueError: when arrays' lengths, shapes, types or classes do not fit the job, or the parent does not.
        OSError: when a file of the parent cannot be read.
    """
    device = generator.device
    tensors = {name: tensor.to(device) for name, tensor in tensors.items()}
    exemplar_x, exemplar_y = _examples(tensors, INPUT_EXEMPLAR_X, INPUT_EXEMPLAR_Y, job, device)
    order = _rank_order(tensors, len(exemplar_y), device)
    new_x, new_y = _examples(tensors, INPUT_NEW_X, INPUT_NEW_Y, job, device)
    # Convolutions are fastest in the order in which images are stored anyway.
    backbone = parent.read_backbone(job, method, generator).to(device).to(memory_format=torch.channels_last)
    inputs = StepInputs(
        backbone=backbone,
        parent_head=parent.read_head(job, device),
        class_count=len(job.labels),
        new_x=new_x,
        new_y=new_y,
        exemplar_x=exemplar_x[order],
        exemplar_y=exemplar_y[order],
        per_class=job.memory.per_class(len(job.labels)),
        autocast=resolve_precision(job.training.precision, device) == "bfloat16",
        compile=job.training.compile,
        max_seconds=math.inf if job.training.max_minutes is None else 60 * job.training.max_minutes,
        pretrained=job.model.backbone == IDENTITY or bool(job.model.weights),
        trained_head=parent.read_trained_head(job, device),
        statistics=parent.read_statistics(job, device),
    )
    return inputs, order


def _examples(
    tensors: Mapping[str, Tensor], x_name: str, y_name: str, job: Job, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return x [n, ...] in the model's input form and y int64 [n], both empty where the file has none."""
    shape, dtype = job.model.input_shape, getattr(torch, job.model.input_dtype)
    x = tensors.get(x_name, torch.empty((0, *shape), dtype=dtype, device=device))
    if x_name == INPUT_EXEMPLAR_X and x.dtype == torch.float16:
        dtype = torch.float16  # made exemplars may keep more digits than an image has
    y = tensors.get(y_name, torch.empty(0, dtype=torch.int64, device=device))
    if x.dtype != dtype or tuple(x.shape[1:]) != shape:
        raise ValueError(f"{x_name} is {x.dtype} {list(x.shape[1:])}, the network takes {dtype} {list(shape)}")
    if y.dtype != torch.int64 or y.shape != x.shape[:1]:
        raise ValueError(f"{y_name} must be {len(x)} int64 classes, one per example of {x_name}")
    if len(y) and not (int(y.min()) >= 0 and int(y.max()) < len(job.labels)):
        raise ValueError(f"{y_name} has a class outside 0 to {len(job.labels) - 1}")
    return x, y


def _rank_order(tensors: Mapping[str, Tensor], count: int, device: torch.device) -> Tensor:
    """Return the order that puts each class's exemplars in rank order, because a memory shrinks from the end."""
    rank = tensors.get(INPUT_EXEMPLAR_RANK, torch.arange(count, device=device))
    if len(rank) != count:
        raise ValueError(f"{INPUT_EXEMPLAR_RANK} has {len(rank)} entries for {count} exemplars")
    return rank.argsort(stable=True)
