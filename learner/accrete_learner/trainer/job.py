"""The files of a step's folder, which the learner's process and the trainer exchange. Standard library alone.

    job.json               the `Job`; written by the learner, last of its files
    inputs.safetensors     tensors named by the INPUT_* constants; absent ones are empty
    candidate/             the files of the new version, without a manifest
    exemplars.safetensors  x, y, source, shown of the classes chosen anew, in rank order within each class
    result.json            the `Result`; written last and by rename, so that it is there only when all the rest is

Arrays (n examples, m exemplars; an example has the network's input shape and dtype):
    new_x [n, ...]       new_y [n] int64, index into Job.labels
    exemplar_x [m, ...]  exemplar_y [m] int64    exemplar_rank [m] int64, 0 first, within its class
    x, y                 as above; source int64: index into concat(exemplar_x, new_x), or -1 for a synthesised one
    shown [n, k] int64   of synthesised ones: the examples that each was made from, counted like `source`; -1: no more
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from accrete_kit.atomic_file import write_json
from accrete_learner.config import MethodConfig, ModelConfig, TrainingConfig
from accrete_learner.memory.config import MemoryConfig

JOB_FILE = "job.json"
INPUTS_FILE = "inputs.safetensors"
CANDIDATE_FOLDER = "candidate"
EXEMPLARS_FILE = "exemplars.safetensors"
RESULT_FILE = "result.json"

INPUT_NEW_X, INPUT_NEW_Y = "new_x", "new_y"
INPUT_EXEMPLAR_X, INPUT_EXEMPLAR_Y, INPUT_EXEMPLAR_RANK = "exemplar_x", "exemplar_y", "exemplar_rank"


@dataclass(frozen=True, kw_only=True)
class Job:
    """One incremental step.

    Raises:
        ValueError: when the labels repeat or the counts do not fit together.
    """

    version: int
    """Number that the candidate will carry."""
    labels: tuple[str, ...]
    """In the order of the candidate's head: the parent's that stay, then the new."""
    old_count: int = 0
    """How many of `labels`, from the front, the parent knows."""
    parent: str | None = None
    """Folder of the parent's files. None for a first step."""
    parent_rows: tuple[int, ...] = ()
    """For each of the `old_count` labels its row in the parent's head. A row that is missing is a forgotten class's."""
    merged_rows: tuple[tuple[int, int], ...] = ()
    """Further rows of the parent's head, each with the one in `parent_rows` whose class its own was merged into."""
    trained: str | None = None
    """In a first step, folder of a version whose first step trained just as this one would, with another memory or
    rule. Its weights and head are taken over in place of training again."""
    method: MethodConfig = field(default_factory=MethodConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)

    def __post_init__(self) -> None:
        if not self.labels or len(set(self.labels)) != len(self.labels):
            raise ValueError("labels must be distinct and at least one")
        if not 0 <= self.old_count <= len(self.labels):
            raise ValueError(f"old_count = {self.old_count}: must be 0 to {len(self.labels)}, the number of labels")
        if len(self.parent_rows) != self.old_count or len(set(self.parent_rows)) != self.old_count:
            raise ValueError(f"parent_rows must be {self.old_count} distinct rows, one per old label")
        if any(row in self.parent_rows or into not in self.parent_rows for row, into in self.merged_rows):
            raise ValueError("merged_rows must pair rows that are not in parent_rows with rows that are")
        if self.old_count and self.parent is None:
            raise ValueError("old labels need a parent")
        if self.trained is not None and self.parent is not None:
            raise ValueError("only a first step can take over what was trained before")

    @property
    def seed(self) -> int:
        """Of the step's random choices. Each version has its own, and a step that is run again has the same."""
        return (self.training.seed * 1_000_003 + self.version) % 2**63

    def write(self, folder: Path) -> None:
        """Write job.json."""
        write_json(folder / JOB_FILE, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read job.json.

        Raises:
            OSError: when it is not there.
            ValueError: when it is not a job.
        """
        raw = _read_object(folder / JOB_FILE)
        try:
            return cls(
                version=raw["version"],
                labels=tuple(raw["labels"]),
                old_count=raw["old_count"],
                parent=raw["parent"],
                parent_rows=tuple(raw["parent_rows"]),
                merged_rows=tuple((row, into) for row, into in raw.get("merged_rows", ())),
                trained=raw.get("trained"),
                method=MethodConfig(**raw["method"]),
                model=ModelConfig(**raw["model"]),
                training=TrainingConfig(**raw["training"]),
                memory=MemoryConfig(**raw["memory"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"{folder / JOB_FILE} is not a job: {error!r}") from error


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a finished step says about its training."""

    stage_seconds: Mapping[str, float]
    """Wall seconds per stage."""
    images: int
    """Images that training took, which is examples times epochs without rebalancing."""
    losses: tuple[float, ...]
    """Mean loss per epoch, of training and then of rebalancing."""

    def write(self, folder: Path) -> None:
        """Write result.json, which the trainer does last."""
        write_json(folder / RESULT_FILE, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read result.json.

        Raises:
            OSError: when it is not there, so the step did not finish.
            ValueError: when it is not a result.
        """
        raw = _read_object(folder / RESULT_FILE)
        try:
            return cls(stage_seconds=raw["stage_seconds"], images=raw["images"], losses=tuple(raw["losses"]))
        except (KeyError, TypeError) as error:
            raise ValueError(f"{folder / RESULT_FILE} is not a result: {error!r}") from error


def _read_object(path: Path) -> dict[str, Any]:
    raw = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(raw, dict):
        raise ValueError(f"{path} does not hold a JSON object")
    return raw
