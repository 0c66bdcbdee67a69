"""Real data and step folders, small enough for seconds: scikit-learn's digits as 8 x 8 grey images."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

import accrete_learner
from accrete_learner.config import MethodConfig, ModelConfig, TrainingConfig
from accrete_learner.memory.config import MemoryConfig
from accrete_learner.metrics import Tally
from accrete_learner.trainer.job import CANDIDATE_FOLDER, INPUTS_FILE, Job
from accrete_learner_service.evaluation.measure import measure
from accrete_storage.examples.example import Example
from benchmarks.digits import scans_of

# On small networks a second thread costs more than it gives.
torch.set_num_threads(1)

SMALL = ModelConfig(backbone="resnet8", input_size=8, channels=1)
QUICK = TrainingConfig(base_epochs=6, epochs=6, batch_size=32, augmentation="crop", threads=1)


def _write_step(
    folder: Path,
    *,
    classes: int,
    old: int = 0,
    parent: Path | None = None,
    arrays: dict[str, np.ndarray] | None = None,
    **fields: Any,
) -> Job:
    folder.mkdir(parents=True, exist_ok=True)
    inputs: dict[str, Any] = dict(zip(("new_x", "new_y"), scans_of(range(old, classes), 40), strict=True))
    save_file(inputs | (arrays or {}), folder / INPUTS_FILE)
    defaults: dict[str, Any] = {
        "version": 2 if parent else 1,
        "labels": tuple(f"digit {label}" for label in range(classes)),
        "old_count": old,
        "parent": str(parent) if parent else None,
        "parent_rows": tuple(range(old)),
        "method": MethodConfig(name="lucir"),
        "model": SMALL,
        "training": QUICK,
        "memory": MemoryConfig(kind="per_class", size=5),
    }
    job = Job(**defaults | fields)
    job.write(folder)
    return job


def _tallies(folder: Path, x: np.ndarray, y: np.ndarray) -> dict[str, Tally]:
    candidate = folder / CANDIDATE_FOLDER
    labels = json.loads((candidate / "model.json").read_text())["labels"]
    holdout: dict[str, list[Example]] = {label: [] for label in labels}
    for index, (tensor, row) in enumerate(zip(x, y, strict=True)):
        holdout[labels[row]].append(Example(id=str(index), label=labels[row], content=tensor))
    return measure(candidate, 1, holdout, lambda: None).tallies


def _start_trainer() -> subprocess.Popen[str]:
    source = str(Path(accrete_learner.__file__).parents[1])
    path = os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH"))))
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "accrete_learner.trainer"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    )


@pytest.fixture(scope="session")
def digits() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """digits(classes, each, skip=0): `each` images and labels of every class, the first `skip` left out."""
    return scans_of


@pytest.fixture(scope="session")
def write_step() -> Callable[..., Job]:
    """write_step(folder, classes=, old=, parent=, arrays=, ...): a step in which digits `old` to `classes` - 1 are new.

    40 examples of each new class. `arrays` replaces or adds inputs, further fields replace those of the job.
    """
    return _write_step


@pytest.fixture(scope="session")
def tallies() -> Callable[..., dict[str, Tally]]:
    """tallies(folder, x, y): how a finished step's candidate answers x, of classes y, measured as the learner does."""
    return _tallies


@pytest.fixture(scope="session")
def start_trainer() -> Callable[[], subprocess.Popen[str]]:
    """start_trainer(): the real process, on one core, with pipes; warnings are errors in it too."""
    return _start_trainer


@pytest.fixture
def generator() -> torch.Generator:
    """Seeded alike for every test."""
    return torch.Generator().manual_seed(0)
