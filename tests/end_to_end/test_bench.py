"""`accrete bench protocol` as a user runs it, offline and through a live node."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from accrete.cli import main
from benchmarks.digits import scans_of
from tests.support.priority import FULL_PRIORITY

FLAGS = (
    "--backbone",
    "resnet8",
    "--classes",
    "6",
    "--base",
    "2",
    "--step",
    "2",
    "--batch-size",
    "16",
    "--threads",
    "1",
)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packed arrays: 60 images of each digit to train on, 40 to test."""
    folder = tmp_path_factory.mktemp("digits")
    for part, each, skip in (("train", 60, 0), ("test", 40, 60)):
        images, labels = scans_of(range(10), each, skip)
        np.save(folder / f"{part}_images.npy", images)
        np.save(folder / f"{part}_labels.npy", labels)
    (folder / "names.txt").write_text("\n".join(f"digit {label}" for label in range(10)))
    return folder


def bench(*arguments: object) -> int:
    """Return the exit status of the command, run in this process, which has imported PyTorch already."""
    return main(["bench", "protocol", *map(str, arguments)])


def test_methods_are_compared_reported_and_drawn(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--data", digits, "--methods", "icarl,finetune", "--seeds", "1,2", "--epochs", "2", *FLAGS)
    assert bench(*flags, "--rules", "knn", "--figures", "--out", tmp_path) == 0
    found = json.loads((tmp_path / "results.json").read_text())
    assert [(run["method"], run["seed"]) for run in found["runs"]] == [
        ("finetune", 1),
        ("finetune", 2),
        ("icarl", 1),
        ("icarl", 2),
    ]
    assert "| icarl " in (tmp_path / "results.md").read_text()
    pictures = {path.name for path in (tmp_path / "figures").iterdir()}
    names = ("accuracy", "confusion", "features", "exemplars")
    assert pictures == {f"{name}.{suffix}" for name in names for suffix in ("png", "pdf", "svg")}
    assert bench(*flags, "--memory", "60", "--out", tmp_path) == 2
    assert "holds another protocol (memory" in capsys.readouterr().err


def test_wrong_flags_are_told_before_anything_runs(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for flags, said in (
        (("--data", tmp_path / "nothing"), "nothing"),
        (("--data", digits, "--memory", "many"), "--memory many"),
        (("--data", digits, "--methods", "lucid"), "lucid"),
        (("--data", digits, "--base", "2", "--epochs", "0"), "epochs"),
        (("--data", digits, "--base", "20"), "base"),
    ):
        assert bench(*flags, "--out", tmp_path / "out") == 2, said
        errors = capsys.readouterr().err
        assert said in errors
        assert "Traceback" not in errors


def test_the_live_node_ends_within_noise_of_the_offline_run(digits: Path, tmp_path: Path) -> None:
    flags = ("--data", digits, "--methods", "icarl", "--seeds", "1", "--epochs", "12", *FLAGS)
    program = Path(sys.executable).with_name("accrete")
    command = [program, "bench", "protocol", *flags, "--augmentation", "crop", "--live", "--out", tmp_path]
    ran = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, check=False, timeout=850, env=os.environ | FULL_PRIORITY
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    found = json.loads((tmp_path / "live" / "icarl-1.json").read_text())
    assert len(found["live"]) == len(found["offline"]) == 3
    # 240 test images: three standard errors of a difference of two shares about 0.9.
    assert abs(found["live"][-1] - found["offline"][-1]) < 0.09
    assert found["live"][-1] > 0.6
    assert found["summary"]["predicts_failed"] == 0
