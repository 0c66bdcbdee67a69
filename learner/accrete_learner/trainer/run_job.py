"""One incremental step from a folder to a folder: reads the job, runs the method, writes the candidate.

Nothing outside the folder is touched, and the result is written last: a process killed at any instant leaves either
the whole answer or none.
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from accrete_kit.stopwatch import Stopwatch
from accrete_learner import export, methods
from accrete_learner.backbones import Backbone, build, weights
from accrete_learner.config import IDENTITY, ModelConfig, TrainingConfig
from accrete_learner.heads import SHARED, ridge
from accrete_learner.memory.exemplars import SYNTHESISED, Exemplars
from accrete_learner.method_step import StepInputs, StepOutcome, run_step
from accrete_learner.methods.base import Method
from accrete_learner.trainer.job import (
    CANDIDATE_FOLDER,
    EXEMPLARS_FILE,
    INPUT_EXEMPLAR_RANK,
    INPUT_EXEMPLAR_X,
    INPUT_EXEMPLAR_Y,
    INPUT_NEW_X,
    INPUT_NEW_Y,
    INPUTS_FILE,
    Job,
    Result,
)
from accrete_learner.training.precision import one_thread, resolve_device, resolve_precision
from accrete_model import files
from accrete_model.reader import read_card

_GOLDEN_SEED = 0x676F6C64

Progress = Callable[[str, int, int, float], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Examples:
    """Examples and their classes, on the training device: x [n, ...] in the model's input form, y [n] int64."""

    x: Tensor
    y: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Data:
    """A step's inputs."""

    new: Examples
    exemplars: Examples
    """Each class's in rank order."""
    place: Tensor
    """[m] int64: where each of `exemplars` is in the file."""


def run(folder: Path, job: Job, progress: Progress) -> export.Candidate:
    """Runs the step `job` in `folder` and answers the candidate that it wrote there.

    Args:
        folder: holds inputs.safetensors; see the module `job` for what it holds afterwards.
        job: as read from the folder.
        progress: called with the stage, how much of it is done, of how much, and the loss.

    Raises:
        ValueError: when the job and its inputs do not fit together, or the trained model is not finite.
        OSError: when a file cannot be read or written.
        Exception: whatever else the step raises; the folder then has no result.
    """
    watch = Stopwatch()
    device = resolve_device(job.training.device)
    generator = torch.Generator(device).manual_seed(seed(job))
    method = methods.configured(job.method)
    if method.restart:
        job = replace(job, parent=None, parent_rows=(), old_count=0)
    parent = None if job.parent is None else Path(job.parent)
    with watch.stage("load"), one_thread():
        data = load_data(folder, job, device)
        inputs = _step_inputs(job, method, data, device, generator)
    outcome = run_step(inputs, method, progress=progress, generator=generator)
    watch.seconds |= outcome.stage_seconds
    candidate = _candidate(job, parent, method, outcome)
    with watch.stage("export"), one_thread():
        _clear(folder / CANDIDATE_FOLDER)
        export.write(folder / CANDIDATE_FOLDER, candidate, _golden_examples(data), parent)
        if outcome.statistics:
            export.write_tensors(folder / CANDIDATE_FOLDER / files.STATISTICS_FILE, outcome.statistics)
        _write_exemplars(folder / EXEMPLARS_FILE, outcome.exemplars, job, data.place.cpu())
    Result(stage_seconds=watch.seconds, images=outcome.images, losses=tuple(outcome.losses)).write(folder)
    return candidate


def seed(job: Job) -> int:
    """Of the step's random choices: its own for each version, and the same when the step is run again."""
    return (job.training.seed * 1_000_003 + job.version) % 2**63


def load_data(folder: Path, job: Job, device: torch.device) -> Data:
    """Reads inputs.safetensors onto `device`, checked against the job.

    Raises:
        ValueError: on arrays whose lengths, shapes, types or classes do not fit the job.
    """
    tensors = load_file(folder / INPUTS_FILE, device=str(device))
    exemplars = _examples(tensors, INPUT_EXEMPLAR_X, INPUT_EXEMPLAR_Y, job, device)
    rank = tensors.get(INPUT_EXEMPLAR_RANK, torch.arange(len(exemplars.y), device=device))
    if len(rank) != len(exemplars.y):
        raise ValueError(f"{INPUT_EXEMPLAR_RANK} has {len(rank)} entries for {len(exemplars.y)} exemplars")
    # Methods and budgets count on rank order: the memory shrinks from the end.
    order = rank.argsort(stable=True)
    return Data(
        new=_examples(tensors, INPUT_NEW_X, INPUT_NEW_Y, job, device),
        exemplars=Examples(x=exemplars.x[order], y=exemplars.y[order]),
        place=order,
    )


def _examples(tensors: Mapping[str, Tensor], x_name: str, y_name: str, job: Job, device: torch.device) -> Examples:
    shape, dtype = job.model.input_shape, getattr(torch, job.model.input_dtype)
    x = tensors.get(x_name, torch.empty((0, *shape), dtype=dtype, device=device))
    if x_name == INPUT_EXEMPLAR_X and x.dtype == torch.float16:
        dtype = torch.float16  # made exemplars may keep more digits than an image has
    y = tensors.get(y_name, torch.empty(0, dtype=torch.int64, device=device))
    if x.dtype != dtype or tuple(x.shape[1:]) != shape:
        raise ValueError(f"{x_name} is {x.dtype} {list(x.shape[1:])}, the network takes {dtype} {list(shape)}")
    if y.dtype != torch.int64 or y.shape != x.shape[:1]:
        raise ValueError(f"{y_name} must be {len(x)} int64 classes, one an example of {x_name}")
    if len(y) and not (int(y.min()) >= 0 and int(y.max()) < len(job.labels)):
        raise ValueError(f"{y_name} has a class outside 0 to {len(job.labels) - 1}")
    return Examples(x=x, y=y)


def _step_inputs(job: Job, method: Method, data: Data, device: torch.device, generator: torch.Generator) -> StepInputs:
    return StepInputs(
        # Convolutions are fastest in the order in which images are stored anyway.
        backbone=_backbone(job, method, generator).to(device).to(memory_format=torch.channels_last),
        parent_head=_parent_head(job, device),
        class_count=len(job.labels),
        new_x=data.new.x,
        new_y=data.new.y,
        exemplar_x=data.exemplars.x,
        exemplar_y=data.exemplars.y,
        per_class=job.memory.per_class(len(job.labels)),
        training=_resolved(job.training, job.model, device),
        synthesis_iterations=job.method.synthesis_iterations,
        exemplar_pixels=job.method.exemplar_pixels,
        pretrained=job.model.backbone == IDENTITY or bool(job.model.weights),
        trained_head=None
        if job.trained is None
        else load_file(Path(job.trained) / files.HEAD_FILE, device=str(device)),
        statistics=_statistics(job, device),
    )


def _resolved(training: TrainingConfig, network: ModelConfig, device: torch.device) -> TrainingConfig:
    """`auto` as what it means for this network on this device."""
    precision = resolve_precision(training.precision, device)
    augmentation = "none" if network.backbone == IDENTITY else training.augmentation
    return replace(training, precision=precision, augmentation=augmentation)


def _backbone(job: Job, method: Method, generator: torch.Generator) -> Backbone:
    if job.trained is not None:
        backbone = build(job.model, last_relu=method.last_relu)
        weights.load(backbone, load_file(Path(job.trained) / files.WEIGHTS_FILE), source=job.trained)
        return backbone
    if job.parent is None:
        backbone = build(job.model, generator=generator, last_relu=method.last_relu)
        export.check_exportable(backbone)
        return backbone
    parent = Path(job.parent)
    card, network = read_card(parent), job.model
    if (card.backbone, card.spec.shape) != (network.backbone, network.input_shape):
        raise ValueError(
            f"the parent is a {card.backbone} for {list(card.spec.shape)}, "
            f"the configuration asks for {network.backbone} for {list(network.input_shape)}: "
            "set [model] back, or begin with another data_dir"
        )
    # The parent's weights replace those of the first step, whose file may be gone by now.
    backbone = build(replace(network, weights=""), generator=generator, last_relu=card.last_relu)
    file = parent / files.WEIGHTS_FILE
    weights.load(backbone, load_file(file), source=str(file))
    return backbone


def _parent_head(job: Job, device: torch.device) -> dict[str, Tensor] | None:
    """The parent's head with the rows of the labels that stay, in their new order; None when none stays."""
    if job.parent is None or not job.old_count:
        return None
    head = load_file(Path(job.parent) / files.HEAD_FILE, device=str(device))
    known = len(head["weight"])
    if not all(0 <= row < known for row in job.parent_rows):
        raise ValueError(f"parent_rows has a row outside 0 to {known - 1}")
    rows = torch.tensor(job.parent_rows, device=device)
    return {name: tensor if name in SHARED else tensor[rows] for name, tensor in head.items()}


def _statistics(job: Job, device: torch.device) -> dict[str, Tensor] | None:
    """What a closed-form parent kept of all its examples; None where there is none."""
    file = None if job.parent is None else Path(job.parent) / files.STATISTICS_FILE
    if file is None or not file.exists():
        return None
    return ridge.keep_rows(load_file(file, device=str(device)), list(job.parent_rows))


def _candidate(job: Job, parent: Path | None, method: Method, outcome: StepOutcome) -> export.Candidate:
    return export.Candidate(
        backbone=outcome.backbone,
        head={**outcome.head.export(), "means": outcome.means},
        labels=job.labels,
        model=job.model,
        method=method.name,
        rule=outcome.rule,
        rule_tensors=outcome.rule_tensors,
        # The parent's network goes on as it was built, whatever this method would have built.
        last_relu=method.last_relu if parent is None else read_card(parent).last_relu,
    )


def _golden_examples(data: Data) -> Tensor:
    """Made up: a version's files outlive the examples, and must hold nobody's. Smooth as pictures are, so that features
    are of the usual size; vectors are normal, of the examples' own deviation."""
    generator = torch.Generator().manual_seed(_GOLDEN_SEED)
    like = data.new.x
    if like.dim() != 4:
        deviation = float(like.float().std(correction=0)) if len(like) else 1.0
        return torch.randn(export.GOLDEN_EXAMPLES, *like.shape[1:], generator=generator) * (deviation or 1.0)
    height, width, channels = like.shape[1:]
    coarse = torch.rand(export.GOLDEN_EXAMPLES, channels, -(-height // 4), -(-width // 4), generator=generator)
    smooth = F.interpolate(coarse, size=(height, width), mode="bilinear")
    grain = torch.rand(smooth.shape, generator=generator)
    return (255 * (0.8 * smooth + 0.2 * grain)).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _write_exemplars(path: Path, chosen: Mapping[int, Exemplars], job: Job, place: Tensor) -> None:
    """`source` counts in the order of the file of inputs, whose owner knows each example by it."""
    labels = sorted(chosen)
    x = [chosen[label].x.cpu() for label in labels] or [
        torch.empty((0, *job.model.input_shape), dtype=getattr(torch, job.model.input_dtype))
    ]
    source = [chosen[label].source.cpu() for label in labels] or [torch.empty(0, dtype=torch.int64)]
    counts = torch.tensor([len(chosen[label]) for label in labels], dtype=torch.int64)
    y = torch.tensor(labels, dtype=torch.int64).repeat_interleave(counts)
    shown = [_shown(chosen[label]) for label in labels]
    width = max((rows.shape[1] for rows in shown), default=0)
    wide = [F.pad(rows, (0, width - rows.shape[1]), value=SYNTHESISED) for rows in shown]
    tensors = {"source": torch.cat(source), "shown": torch.cat(wide or [torch.empty((0, 0), dtype=torch.int64)])}
    for index in tensors.values():
        from_before = (index >= 0) & (index < len(place))
        index[from_before] = place[index[from_before]]
    export.write_tensors(path, {"x": torch.cat(x), "y": y} | tensors)


def _shown(own: Exemplars) -> Tensor:
    return torch.empty((len(own), 0), dtype=torch.int64) if own.shown is None else own.shown.cpu()


def _clear(candidate: Path) -> None:
    """Half a candidate stays behind when a trainer is killed while it writes."""
    if candidate.exists():
        shutil.rmtree(candidate)
