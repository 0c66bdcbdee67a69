"""The files of a deep step's folder, which the learner's process and the trainer exchange. Without torch.

    deep.json              the `DeepJob`; written by the learner, last of its files
    inputs.safetensors     what the INPUT_* constants name
    backbone/              card and graph of the tuned backbone
    features.safetensors   "features" float32 [n, d] of the examples, by the tuned backbone
    result.json            the `DeepResult`; written last and by rename, so that it is there only when all the rest is

Arrays (n examples at hand, h of them judge; m learned examples that do not judge; d feature length):
    data [bytes] uint8    ends [n] int64    encoded [n] bool      pixels, or files of JPEG, one after another
    y [n] int64           judges [n] bool
    known_x [m, d]        known_y [m]       known_judges [h, d]   features by the backbone in use, as they are stored
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from accrete_kit.atomic_file import write_json
from accrete_learner.config import DeepConfig, ModelConfig, TrainingConfig

JOB_FILE = "deep.json"
BACKBONE_FOLDER = "backbone"
FEATURES_FILE = "features.safetensors"
INPUTS_FILE = "inputs.safetensors"
RESULT_FILE = "result.json"

INPUT_DATA, INPUT_ENDS, INPUT_ENCODED = "data", "ends", "encoded"
INPUT_Y, INPUT_JUDGES = "y", "judges"
INPUT_KNOWN_X, INPUT_KNOWN_Y, INPUT_KNOWN_JUDGES = "known_x", "known_y", "known_judges"


@dataclass(frozen=True, kw_only=True)
class DeepJob:
    """One deep step."""

    model: ModelConfig
    """Names the frozen backbone, whose weights training starts from."""
    training: TrainingConfig
    deep: DeepConfig

    def write(self, folder: Path) -> None:
        """Write deep.json."""
        write_json(folder / JOB_FILE, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read deep.json.

        Raises:
            OSError: when it is not there.
            ValueError: when it is no deep step.
        """
        path = folder / JOB_FILE
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            return cls(
                model=ModelConfig(**raw["model"]),
                training=TrainingConfig(**raw["training"]),
                deep=DeepConfig(**raw["deep"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path} is not a deep step: {error!r}") from error


@dataclass(frozen=True, kw_only=True)
class DeepResult:
    """What a deep step came to."""

    better: bool
    """Whether the tuned backbone is to be used."""
    reason: str
    """Why, as part of a sentence for people: "+2.1 points on 540 images"."""
    note: str
    """What the time allowed, as a sentence for people."""
    epochs: float
    """Times that training took each example."""
    stage_seconds: Mapping[str, float]
    """Wall seconds per stage."""

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
        path = folder / RESULT_FILE
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except TypeError as error:
            raise ValueError(f"{path} is not a result: {error!r}") from error
