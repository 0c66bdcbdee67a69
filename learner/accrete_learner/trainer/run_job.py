"""Run one job from a folder to a folder, by reading its inputs, running the method's step and writing the candidate.

Nothing outside the folder is written, and the result is written last, so a process that is killed at any instant leaves
either a whole outcome or none.
"""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from accrete_kit.stopwatch import Stopwatch
from accrete_learner import export, methods
from accrete_learner.method_step import StepInputs, StepOutcome, run_method_step
from accrete_learner.methods.base import Method
from accrete_learner.progress import Note, Progress
from accrete_learner.ranks import ALONE, Group
from accrete_learner.trainer.inputs import read_inputs
from accrete_learner.trainer.job import CANDIDATE_FOLDER, EXEMPLARS_FILE, INPUTS_FILE, Job, Result
from accrete_learner.trainer.outputs import golden_examples, write_exemplars
from accrete_learner.training.checkpoint import Checkpoint
from accrete_learner.training.precision import one_thread, resolve_device
from accrete_model import files
from accrete_model.reader import read_card


def run_job(
    folder: Path,
    job: Job,
    progress: Progress,
    *,
    tensors: Mapping[str, Tensor] | None = None,
    checkpoint: Checkpoint | None = None,
    note: Note = lambda text: None,
    group: Group = ALONE,
    training_only: bool = False,
) -> export.Candidate:
    """Run `job` in `folder` and return the candidate that was written there.

    Args:
        folder: holds inputs.safetensors, unless `tensors` are given; the module `job` says what it holds afterwards.
        job: as read from the folder.
        progress: called with the stage, how much of it is done, of how much, and the loss.
        tensors: what inputs.safetensors would hold, from a caller in the same process.
        checkpoint: of the training, so that the same job need not begin it again; see `run_method_step`.
        note: called with what people should know of the step, a sentence.
        group: the ranks that work on it, each of which calls this. The first one writes.
        training_only: leave out the method's closed form, for a first training that several methods share.

    Raises:
        ValueError: when the job and its inputs do not fit together, or the trained model is not finite.
        OSError: when a file cannot be read or written.
        Exception: whatever else the step raises. The folder then has no result.
    """
    watch = Stopwatch()
    generator = torch.Generator(resolve_device(job.training.device)).manual_seed(job.seed)
    # Dropout and stochastic depth inside torchvision's networks know only torch's global generator. Ranks draw from it
    # for different images.
    torch.manual_seed(job.seed + group.rank)
    method = methods.configured(job.method, job.training)
    if training_only:
        method = replace(method, closed_form=None)
    if method.restart:
        job = replace(job, parent=None, parent_rows=(), old_count=0)
    with watch.stage("load"), one_thread():
        given = load_file(folder / INPUTS_FILE) if tensors is None else tensors
        inputs, place = read_inputs(given, job, method, generator)
    outcome = run_method_step(
        inputs, method, progress=progress, generator=generator, checkpoint=checkpoint, note=note, group=group
    )
    candidate = _candidate(job, method, outcome)
    if group.rank > 0:
        return candidate
    watch.seconds |= outcome.stage_seconds
    with watch.stage("export"), one_thread():
        _write_candidate(folder / CANDIDATE_FOLDER, candidate, job, inputs, outcome)
        write_exemplars(folder / EXEMPLARS_FILE, outcome.exemplars, like=inputs.new_x, place=place)
    Result(stage_seconds=watch.seconds, images=outcome.images, losses=tuple(outcome.losses)).write(folder)
    return candidate


def _candidate(job: Job, method: Method, outcome: StepOutcome) -> export.Candidate:
    return export.Candidate(
        backbone=outcome.backbone,
        head={**outcome.head.export(), "means": outcome.means},
        labels=job.labels,
        model=job.model,
        method=method.name,
        rule=outcome.rule,
        rule_tensors=outcome.rule_tensors,
        # The parent's network goes on as it was built, whatever this method would have built.
        last_relu=method.last_relu if job.parent is None else read_card(Path(job.parent)).last_relu,
    )


def _write_candidate(
    folder: Path, candidate: export.Candidate, job: Job, inputs: StepInputs, outcome: StepOutcome
) -> None:
    # A trainer that was killed while it wrote has left half a candidate.
    if folder.exists():
        shutil.rmtree(folder)
    parent_files = None if job.parent is None else Path(job.parent)
    export.write(folder, candidate, golden_examples(inputs.new_x), parent_files)
    if outcome.statistics:
        export.write_tensors(folder / files.STATISTICS_FILE, outcome.statistics)
