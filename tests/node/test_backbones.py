"""`accrete backbones` measures what it is asked for, and tells what cannot be built."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from accrete_model.frozen import efficientnet_lite0
from accrete_node.backbones import show
from accrete_node.settings import Settings

pytestmark = pytest.mark.integration


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "net.onnx"
    path.write_bytes(efficientnet_lite0.build(64).graph)
    return path


def settings(tmp_path: Path, **model: Any) -> Settings:
    return Settings(data_dir=tmp_path, model=model)  # type: ignore[arg-type]


def test_those_of_accrete_and_of_the_settings_are_listed(
    tmp_path: Path, file: Path, capsys: pytest.CaptureFixture[str]
):
    assert show(settings(tmp_path, backbone=f"onnx:{file}"), [], as_json=False) == 0
    printed = capsys.readouterr().out
    rows = [line for line in printed.splitlines() if " MB " in line]
    assert [line.split()[0] for line in rows] == ["efficientnet_lite0", "resnet32", "resnet8", f"onnx:{file}"]
    assert "uint8 [224, 224, 3], the middle of 256  13.4 MB  Apache-2.0" in rows[0]
    assert all(float(line.split()[-1]) > 0 for line in rows)
    assert "resnet18" in printed.partition("torchvision has ")[2]


def test_named_ones_are_measured_and_wrong_ones_told(tmp_path: Path, file: Path, capsys: pytest.CaptureFixture[str]):
    names = ["resnet8", "resnet19", f"onnx:{file}", "onnx:gone.onnx", "identity"]
    assert show(settings(tmp_path), names, as_json=True) == 2
    told = capsys.readouterr()
    found = json.loads(told.out)
    assert [(one["name"], one["features"], one["input"]) for one in found] == [
        ("resnet8", 128, "uint8 [32, 32, 3]"),
        (f"onnx:{file}", 1984, "uint8 [64, 64, 3], the middle of 73"),
    ]
    problems = told.err.splitlines()
    assert [problem.partition(": must be")[0].partition(": No such")[0] for problem in problems[:2]] == [
        "accrete: model.backbone = 'resnet19'",
        "accrete: model.backbone = 'onnx:gone.onnx'",
    ]
    assert problems[2].startswith("accrete: model.backbone = 'identity': the application computes it")


def test_a_form_that_does_not_fit_is_told(tmp_path: Path, file: Path, capsys: pytest.CaptureFixture[str]):
    assert show(settings(tmp_path, backbone=f"onnx:{file}", mean=[0.5]), [f"onnx:{file}"], as_json=False) == 2
    assert "model.mean = [0.5]: " in capsys.readouterr().err
