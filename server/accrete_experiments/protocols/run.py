"""Runs one method through a protocol, task by task, through the same step that the server's learner runs.

A run's folder holds one folder a task: the job, the candidate's files, memory.safetensors (the exemplars after it) and
phase.json, written last. A task that trains has a checkpoint there too. A run that is killed goes on from these files,
with the same figures as one that was not. Files and exemplars of the newest finished task alone are kept, so that the
folder of a run in progress is small, and goes on elsewhere when it is copied there.
"""

import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from accrete_experiments.protocols import spec
from accrete_experiments.protocols.data import Dataset, indices
from accrete_experiments.protocols.results import Run, Scores, Task
from accrete_experiments.protocols.spec import Protocol
from accrete_kit.atomic_file import write_json
from accrete_kit.file_lock import AlreadyLocked, FileLock
from accrete_learner import evaluate, export, fitting, methods
from accrete_learner.config import IDENTITY, MethodConfig, Rule, TrainingConfig
from accrete_learner.memory.config import MemoryConfig
from accrete_learner.methods.base import Method
from accrete_learner.trainer.job import CANDIDATE_FOLDER, EXEMPLARS_FILE, Job, Result
from accrete_learner.trainer.run_job import run_job
from accrete_learner.training.checkpoint import Checkpoint

#: It and its folder have the names from before a task was called one: runs go on that were begun then.
TASK_FILE = "phase.json"
MEMORY_FILE = "memory.safetensors"
CHECKPOINT_FILE = "checkpoint.safetensors"
#: What is lost at most of a training that is killed, beside the epoch at hand.
CHECKPOINT_INTERVAL_S = 180.0
TRAINED_FOLDER = "trained"
EVERYTHING = MemoryConfig(kind="per_class", size=10_000_000)

Progress = Callable[[int, str, int, int, float], None]
"""Called with the task, the stage, how much of it is done, of how much, and the loss."""
TaskDone = Callable[[Task, bool], None]
"""Called with a task that is measured, and whether this call ran it: it may have been run before."""

log = logging.getLogger(__name__)


class Busy(RuntimeError):
    """Another process works on the same run."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One run to be made."""

    asked: str
    """As the method was asked for; names the run."""
    seed: int
    protocol: Protocol
    tasks: Sequence[Sequence[int]]
    """Class indices of the data that arrive in each task."""
    rules: Sequence[Rule] = ()
    """Fitted to the memory after each task and measured, beside `head`, `nme` and the method's own."""
    trained: Path | None = None
    """Where first trainings lie that runs share, those of other protocols among them. None: beside the runs."""

    @property
    def config(self) -> MethodConfig:
        """The method's choices, the protocol's among them."""
        shared = self.protocol
        return replace(
            spec.parse(self.asked),
            exemplar_pixels=shared.exemplar_pixels,
            synthesis_iterations=shared.synthesis_iterations,
        )

    @property
    def training(self) -> TrainingConfig:
        """How the method trains under the protocol."""
        return self.protocol.trained_with(methods.load(self.config.name), self.seed)

    @property
    def method(self) -> Method:
        """The method as it runs."""
        return methods.configured(self.config, self.training)

    @property
    def name(self) -> str:
        """Of the run's folder."""
        return f"{self.asked}-{self.seed}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """All exemplars between two tasks, by class in order of arrival, in rank order within a class."""

    x: Tensor
    y: Tensor

    @classmethod
    def read(cls, folder: Path) -> "Memory":
        tensors = load_file(folder / MEMORY_FILE)
        return cls(x=tensors["x"], y=tensors["y"])


def run(
    plan: Plan,
    data: Dataset,
    folder: Path,
    progress: Progress,
    task_done: TaskDone = lambda task, ran: None,
) -> Run:
    """Run what is left of `plan` in `folder`/runs and return all its tasks.

    On a CPU the figures follow from the plan and the number of threads alone.

    Args:
        plan: see there.
        data: the protocol's; its test images are touched by `measure` alone, after each task's step.
        folder: shared by all runs of a comparison; first tasks that train alike are trained once, in `plan.trained`.
        progress: see `Progress`.
        task_done: see `TaskDone`.

    Raises:
        Busy: when another process runs it just now.
        ValueError: when the method cannot run on this data.
    """
    home = folder / "runs" / plan.name
    home.mkdir(parents=True, exist_ok=True)
    with _alone(home / "lock"):
        tasks = tuple(_tasks(plan, data, folder, progress, task_done))
    return Run(
        method=plan.asked,
        seed=plan.seed,
        protocol=plan.protocol.to_dict(),
        labels=tuple(data.names[index] for task in plan.tasks for index in task),
        tasks=tasks,
    )


def _tasks(plan: Plan, data: Dataset, folder: Path, progress: Progress, task_done: TaskDone) -> Iterator[Task]:
    for number in range(1, len(plan.tasks) + 1):
        before = _done(task_folder(folder, plan, number))
        task = before or _run_task(plan, data, folder, number, progress)
        _forget(folder, plan, number)
        task_done(task, before is None)
        yield task


def _done(here: Path) -> Task | None:
    """Return a task that was run before; None where it was not, or where a loss of power left no whole file of it."""
    try:
        return Task.from_dict(json.loads((here / TASK_FILE).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError):
        return None


def _run_task(plan: Plan, data: Dataset, folder: Path, number: int, progress: Progress) -> Task:
    here = task_folder(folder, plan, number)
    _clear(here)
    if number == 1:
        _share_training(plan, data, folder, progress)
    candidate, result, memory = _step(plan, data, folder, number, progress)
    task = _measured(plan, data, number, candidate, _with_training(plan, folder, number, result), memory)
    export.write_tensors(here / MEMORY_FILE, {"x": memory.x, "y": memory.y})
    write_json(here / TASK_FILE, asdict(task))
    return task


def _step(
    plan: Plan, data: Dataset, folder: Path, number: int, progress: Progress
) -> tuple[export.Candidate, Result, Memory]:
    here = task_folder(folder, plan, number)
    before = None if number == 1 else Memory.read(task_folder(folder, plan, number - 1))
    x, y = examples(plan, data, number)
    job = _job(plan, data, folder, number)
    tensors = {"new_x": x, "new_y": y}
    if before is not None:
        tensors |= {"exemplar_x": before.x, "exemplar_y": before.y, "exemplar_rank": _ranks(before.y)}
    candidate = _run_job(here, job, tensors, number, progress)
    return candidate, Result.read(here), _memory_after(here, job, before)


def _run_job(
    here: Path,
    job: Job,
    tensors: Mapping[str, Tensor],
    number: int,
    progress: Progress,
    *,
    training_only: bool = False,
) -> export.Candidate:
    job.write(here)
    return run_job(
        here,
        job,
        lambda stage, done, total, loss: progress(number, stage, done, total, loss),
        tensors=tensors,
        checkpoint=Checkpoint(here / CHECKPOINT_FILE, interval_s=CHECKPOINT_INTERVAL_S),
        training_only=training_only,
    )


def examples(plan: Plan, data: Dataset, number: int) -> tuple[Tensor, Tensor]:
    """Training examples of the classes that arrive in task `number`, and their classes by order of arrival."""
    rows = indices(data.train_y, plan.tasks[number - 1], per_class=plan.protocol.per_class or None)
    rank = _ranks_of_arrival(plan, data, number)
    return torch.from_numpy(data.train_x[rows]), rank[torch.from_numpy(data.train_y[rows])]


def _ranks_of_arrival(plan: Plan, data: Dataset, number: int) -> Tensor:
    """For each class of the data its place in the order of arrival, -1 for one that has not come by task `number`."""
    arrived = [index for task in plan.tasks[:number] for index in task]
    rank = torch.full((len(data.names),), -1, dtype=torch.int64)
    rank[arrived] = torch.arange(len(arrived))
    return rank


def _job(plan: Plan, data: Dataset, folder: Path, number: int) -> Job:
    labels = [data.names[index] for task in plan.tasks[:number] for index in task]
    old = sum(len(task) for task in plan.tasks[: number - 1])
    shared = trained_folder(plan, folder)
    return Job(
        version=number,
        labels=tuple(labels),
        old_count=old,
        parent=str(task_folder(folder, plan, number - 1) / CANDIDATE_FOLDER) if old else None,
        parent_rows=tuple(range(old)),
        trained=str(shared / CANDIDATE_FOLDER) if number == 1 and shared is not None else None,
        method=plan.config,
        model=plan.protocol.model,
        training=plan.training,
        # Joint training is the ceiling because it keeps everything; a bound would make it something else.
        memory=plan.protocol.memory if not plan.method.restart else EVERYTHING,
    )


def _share_training(plan: Plan, data: Dataset, folder: Path, progress: Progress) -> None:
    """Train the first task, without a memory and into a folder of its own, where no run has trained its like."""
    shared = trained_folder(plan, folder)
    if shared is None:
        return
    shared.parent.mkdir(parents=True, exist_ok=True)
    with _alone(shared.with_suffix(".lock"), wait=True):
        if shared.exists():
            return
        making = shared.with_suffix(".making")
        _clear(making)
        x, y = examples(plan, data, 1)
        # Nothing of the memory or the rule is taken over, so the cheapest will do.
        first = _job(plan, data, folder, 1)
        method_config = replace(first.method, selection="random", rule="head")
        job = replace(first, trained=None, method=method_config, memory=MemoryConfig(size=0))
        _run_job(making, job, {"new_x": x, "new_y": y}, 1, progress, training_only=True)
        (making / CHECKPOINT_FILE).unlink()
        making.rename(shared)


def _with_training(plan: Plan, folder: Path, number: int, result: Result) -> Result:
    """Return the result with time and images of a first task's training that several runs share."""
    shared = trained_folder(plan, folder) if number == 1 else None
    if shared is None:
        return result
    trained = Result.read(shared)
    seconds = {**result.stage_seconds, "train": trained.stage_seconds["train"]}
    return replace(result, images=trained.images, stage_seconds=seconds)


def _measured(
    plan: Plan, data: Dataset, number: int, candidate: export.Candidate, result: Result, memory: Memory
) -> Task:
    counts = tuple(len(task) for task in plan.tasks[:number])
    fitted: dict[str, Mapping[str, Tensor]] = {
        rule: _fitted(rule, candidate, memory, plan.seed) for rule in plan.rules if len(memory.y)
    }
    fitted[candidate.rule] = candidate.rule_tensors
    scores, totals = measure(candidate, data, _ranks_of_arrival(plan, data, number), fitted)
    return Task(
        number=number,
        class_counts=counts,
        totals=totals,
        scores=scores,
        exemplars=len(memory.y),
        images=result.images,
        seconds=dict(result.stage_seconds),
    )


def _fitted(rule: Rule, candidate: export.Candidate, memory: Memory, seed: int) -> Mapping[str, Tensor]:
    features = evaluate.extract(candidate.backbone, memory.x.to(candidate.head["means"].device))
    generator = torch.Generator(features.device).manual_seed(seed)
    labels = memory.y.to(features.device)
    return fitting.fit(rule, features, labels, class_count=len(candidate.labels), generator=generator)


def measure(
    candidate: export.Candidate, data: Dataset, rank: Tensor, fitted: Mapping[str, Mapping[str, Tensor]]
) -> tuple[dict[str, Scores], tuple[int, ...]]:
    """Return hits on the test images of the classes that have come, and how many images each has, by order of arrival.

    Args:
        candidate: finished.
        data: its test images are read here and nowhere else.
        rank: [classes of the data], each class's place in the order of arrival, -1 for one that has not come.
        fitted: rules to measure beside `head` and `nme`, and what each was fitted to.
    """
    count, device = len(candidate.labels), candidate.head["means"].device
    y = rank[torch.from_numpy(data.test_y)]
    seen = y >= 0
    features = evaluate.extract(candidate.backbone, torch.from_numpy(data.test_x[seen.numpy()]).to(device))
    y = y[seen]
    found = {}
    for rule in dict.fromkeys(("head", "nme", *fitted)):
        scores = evaluate.scores(rule, features, candidate.head, fitted.get(rule, {}))
        best = scores.topk(min(5, count), dim=1).indices == y[:, None]
        found[rule] = Scores(hits=_by_class(y[best[:, 0]], count), hits5=_by_class(y[best.any(dim=1)], count))
    return found, _by_class(y, count)


def _by_class(y: Tensor, count: int) -> tuple[int, ...]:
    return tuple(torch.bincount(y, minlength=count).tolist())


def _memory_after(here: Path, job: Job, before: Memory | None) -> Memory:
    """Return the exemplars made in the step, and of every other class the first ones that its share still holds."""
    made = load_file(here / EXEMPLARS_FILE)
    share = job.memory.per_class(len(job.labels))
    anew = set(made["y"].tolist())
    xs, ys = [made["x"]], [made["y"]]
    for label in sorted(set() if before is None else set(before.y.tolist()) - anew):
        assert before is not None
        own = (before.y == label).nonzero().squeeze(1)[:share]
        xs.append(before.x[own])
        ys.append(before.y[own])
    x, y = torch.cat(xs), torch.cat(ys)
    order = y.argsort(stable=True)
    return Memory(x=x[order], y=y[order])


def _ranks(y: Tensor) -> Tensor:
    """Position of each exemplar within its class; `y` is sorted."""
    positions = torch.arange(len(y))
    starts = torch.searchsorted(y, y)
    return positions - starts


def task_folder(folder: Path, plan: Plan, number: int) -> Path:
    """Return where a task's files lie."""
    return folder / "runs" / plan.name / f"phase-{number:02d}"


def trained_folder(plan: Plan, folder: Path) -> Path | None:
    """Return where the first task's training is shared, None for a method that does not train it."""
    method, model = plan.method, plan.protocol.model
    if method.frozen != "never" and (model.weights or model.backbone == IDENTITY):
        return None
    return (plan.trained or folder / TRAINED_FOLDER) / spec.first_training(method, plan.training, plan.protocol)


def _clear(here: Path) -> None:
    """Make the folder of a task anew, with nothing in it but the checkpoint of one that was killed."""
    here.mkdir(exist_ok=True)
    for path in here.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != CHECKPOINT_FILE:
            path.unlink()


def _forget(folder: Path, plan: Plan, number: int) -> None:
    """A finished task's exemplars are in its memory and its training is over; of older tasks only figures are read."""
    here = task_folder(folder, plan, number)
    (here / EXEMPLARS_FILE).unlink(missing_ok=True)
    (here / CHECKPOINT_FILE).unlink(missing_ok=True)
    for older in range(1, number):
        shutil.rmtree(task_folder(folder, plan, older) / CANDIDATE_FOLDER, ignore_errors=True)
        (task_folder(folder, plan, older) / MEMORY_FILE).unlink(missing_ok=True)


@contextmanager
def _alone(path: Path, *, wait: bool = False) -> Iterator[None]:
    try:
        lock = FileLock(path, timeout_s=None if wait else 0)
    except AlreadyLocked as error:
        raise Busy(f"{path.parent} is being worked on by another process") from error
    with lock:
        yield
