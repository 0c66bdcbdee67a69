"""Hits of a loaded version on the hold-out, by the rule that serves.

Shapes: N examples, K labels answered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from accrete_engine.answers import Answers
from accrete_engine.config import EngineConfig
from accrete_engine.errors import LoadError
from accrete_engine.loaded import LoadedVersion, load
from accrete_engine.vectors import Floats
from accrete_learner.metrics import Tally
from accrete_learner_service.errors import StepFailed
from accrete_storage.example import Example

#: The learner's own computing: one thread of the CPU, wherever serving and training run.
ENGINE = EngineConfig(engine="onnxruntime", device="cpu", threads=1)
#: Examples computed at once; bounds memory, and a CPU gains nothing from more.
BATCH = 32


def measure(files: Path, version: int, holdout: Mapping[str, Sequence[Example]]) -> dict[str, Tally]:
    """Hits of a version on the hold-out of the given labels; no other label is offered as an answer.

    Args:
        files: the version's artifact folder.
        version: its number.
        holdout: examples by label; all labels that the version knows and that are not masked.

    Raises:
        StepFailed: the version cannot be loaded.
    """
    loaded = load_checked(files, version)
    try:
        answers = loaded.answers(frozenset(loaded.labels) - holdout.keys())
        return {label: _tally(loaded, answers, label, examples) for label, examples in holdout.items() if examples}
    finally:
        loaded.close()


def check_loads(files: Path, version: int) -> None:
    """Loads a candidate as a server will: parts that fit, finite weights, golden outputs.

    Raises:
        StepFailed: it cannot be loaded, so it must not serve.
    """
    load_checked(files, version).close()


def load_checked(files: Path, version: int) -> LoadedVersion:
    """Loads a version on the learner's own engine.

    Raises:
        StepFailed: naming the version, the stage and the reason.
    """
    try:
        return load(files, version, ENGINE)
    except LoadError as error:
        raise StepFailed(f"version {version} cannot be loaded: {error}") from error


def compute_features(loaded: LoadedVersion, examples: Sequence[Example]) -> Floats:
    """Features [N, d] of examples, a batch at a time."""
    batches = [examples[start : start + BATCH] for start in range(0, len(examples), BATCH)]
    computed = [loaded.features(np.stack([example.tensor for example in batch])) for batch in batches]
    return np.concatenate([np.zeros((0, loaded.feature_length), np.float32), *computed])


def _tally(loaded: LoadedVersion, answers: Answers, label: str, examples: Sequence[Example]) -> Tally:
    best = answers(compute_features(loaded, examples)).argmax(axis=1)  # [N], of K
    return Tally(hits=sum(answers.labels[row] == label for row in best), total=len(examples))
