"""One step of the learner in a trainer's process of its own, on noise: what it costs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from accrete_kit.large_pages import with_large_pages
from accrete_learner.config import MethodConfig, ModelConfig, TrainingConfig
from accrete_learner.memory.config import MemoryConfig
from accrete_learner.trainer.job import CANDIDATE_FOLDER, INPUTS_FILE, Job, Result

_NEW, _EACH = 5, 100


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one step."""

    seconds: float
    """From its inputs' being read to its candidate's being written; the process's start is not in it."""
    peak_kb: float
    """Most host memory of its process."""


def images(count: int, classes: int) -> tuple[Tensor, Tensor]:
    """Noise, n x 32 x 32 x 3, and labels by turns: what an image shows does not change how long it takes."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(256, (count, 32, 32, 3), generator=generator, dtype=torch.uint8)
    return x, torch.arange(count) % classes


def first_step(folder: Path, classes: int) -> Path:
    """Train a first version of so many classes and return its folder."""
    x, y = images(2 * classes, classes)
    _run(folder, _job(classes, 0, 2 * classes, None), {"new_x": x, "new_y": y})
    return folder / CANDIDATE_FOLDER


def later_step(folder: Path, parent: Path, old: int, memory: int) -> Cost:
    """Return the cost of one epoch on five new classes of 100 examples and on `memory` exemplars of `old` classes."""
    x, y = images(_NEW * _EACH, _NEW)
    kept, kept_y = images(memory, old)
    tensors = {"new_x": x, "new_y": old + y, "exemplar_x": kept, "exemplar_y": kept_y.sort().values}
    return _run(folder, _job(old + _NEW, old, memory, parent), tensors)


def _job(classes: int, old: int, memory: int, parent: Path | None) -> Job:
    return Job(
        version=2 if parent else 1,
        labels=tuple(map(str, range(classes))),
        old_count=old,
        parent=None if parent is None else str(parent),
        parent_rows=tuple(range(old)),
        method=MethodConfig(name="lucir"),
        model=ModelConfig(),
        training=TrainingConfig(base_epochs=1, epochs=1),
        memory=MemoryConfig(kind="total", size=memory),
    )


def _run(folder: Path, job: Job, tensors: dict[str, Tensor]) -> Cost:
    folder.mkdir()
    save_file(tensors, folder / INPUTS_FILE)
    job.write(folder)
    child = subprocess.Popen(
        [sys.executable, "-m", "accrete_learner.trainer"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=with_large_pages(),
    )
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(json.dumps(str(folder)) + "\n")
    child.stdin.close()
    said = [json.loads(line) for line in child.stdout.read().splitlines()]
    _, status, usage = os.wait4(child.pid, 0)  # the step's process, which the trainer has waited for, counts
    if status or not any(event["stage"] == "done" for event in said):
        raise RuntimeError(f"the step failed: {said[-1]}")
    return Cost(seconds=sum(Result.read(folder).stage_seconds.values()), peak_kb=float(usage.ru_maxrss))
