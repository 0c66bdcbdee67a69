"""What a step is asked and what it answers survive their files, and nothing half-written passes for either."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from accrete_learner.config import MethodConfig, ModelConfig, TrainingConfig
from accrete_learner.memory.config import MemoryConfig
from accrete_learner.trainer.job import JOB_FILE, RESULT_FILE, Job, Result

JOB = Job(
    version=7,
    labels=("Katze", "狗", "owl"),
    old_count=2,
    parent="/data/versions/v000006",
    parent_rows=(2, 0),
    method=MethodConfig(name="icarl", rule="nme"),
    model=ModelConfig(backbone="resnet8", input_size=16),
    training=TrainingConfig(epochs=3, learning_rate=0.05, precision="float32"),
    memory=MemoryConfig(kind="total", size=60),
)
RESULT = Result(stage_seconds={"train": 1.5}, images=640, losses=(1.0, 0.5))


def test_a_job_read_is_the_job_written(tmp_path: Path):
    JOB.write(tmp_path)
    assert Job.read(tmp_path) == JOB


def test_a_result_read_is_the_result_written(tmp_path: Path):
    RESULT.write(tmp_path)
    assert Result.read(tmp_path) == RESULT
    assert [path.name for path in tmp_path.iterdir()] == [RESULT_FILE]


def test_a_result_of_a_release_that_said_more_is_read(tmp_path: Path):
    """A comparison that a former release began goes on from its results."""
    (tmp_path / RESULT_FILE).write_text(json.dumps(dataclasses.asdict(RESULT) | {"version": 7, "epochs": 2}))
    assert Result.read(tmp_path) == RESULT


def test_a_result_that_cannot_be_written_whole_is_not_there(tmp_path: Path):
    class Unserialisable:
        pass

    broken = dataclasses.replace(RESULT, losses=(Unserialisable(),))  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        broken.write(tmp_path)
    with pytest.raises(FileNotFoundError):
        Result.read(tmp_path)


@pytest.mark.parametrize("text", ["", "[1]", "{}", '{"version": 1, "labels": 3}', "nonsense"])
def test_a_file_that_is_no_job_or_result_is_a_value_error(tmp_path: Path, text: str):
    (tmp_path / JOB_FILE).write_text(text)
    (tmp_path / RESULT_FILE).write_text(text)
    with pytest.raises(ValueError):  # noqa: PT011
        Job.read(tmp_path)
    with pytest.raises(ValueError):  # noqa: PT011
        Result.read(tmp_path)


def test_a_job_with_a_bad_setting_names_it(tmp_path: Path):
    JOB.write(tmp_path)
    raw = json.loads((tmp_path / JOB_FILE).read_text())
    raw["training"]["batch_size"] = 0
    (tmp_path / JOB_FILE).write_text(json.dumps(raw))
    with pytest.raises(ValueError, match="batch_size = 0"):
        Job.read(tmp_path)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"labels": ("a", "a")}, "distinct"),
        ({"labels": ()}, "at least one"),
        ({"labels": ("a",), "old_count": 2}, "old_count = 2"),
        ({"labels": ("a", "b"), "old_count": 2, "parent": "p", "parent_rows": (0,)}, "2 distinct rows"),
        ({"labels": ("a", "b"), "old_count": 2, "parent": "p", "parent_rows": (0, 0)}, "2 distinct rows"),
        ({"labels": ("a",), "old_count": 1, "parent_rows": (0,)}, "need a parent"),
    ],
)
def test_a_job_whose_parts_do_not_fit_is_refused(changed: dict[str, Any], said: str):
    with pytest.raises(ValueError, match=said):
        Job(version=1, **changed)
