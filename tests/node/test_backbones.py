"""`accrete backbones` measures what it is asked for, and tells what cannot be built."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from accrete_learner.frozen_backbone import frozen_backbone
from accrete_model.config import EngineConfig
from accrete_model.engines.onnxruntime_ import GraphEngine
from accrete_model.frozen import efficientnet_lite0
from accrete_node.backbones import show
from accrete_node.int8 import FEWEST, write_int8
from accrete_node.settings import Settings
from tests.server.pictures import picture

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


def test_a_backbone_in_integers_is_written_and_takes_images_as_the_other_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    folder, made = tmp_path / "photographs", tmp_path / "int8.onnx"
    (folder / "deep").mkdir(parents=True)
    for seed in range(FEWEST):
        picture(90, 70, seed=seed).save(folder / "deep" / f"{seed}.png")
    (folder / "notes.txt").write_text("no image")
    (folder / ".thumbnails").mkdir()
    picture(90, 70, seed=99).save(folder / ".thumbnails" / "0.png")
    own = settings(tmp_path, backbone="efficientnet_lite0", input_size=32)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))  # a machine without a folder for such files
    assert write_int8(own, made, folder) == 0
    assert [path.name for path in tmp_path.iterdir() if "int8" in path.name] == ["int8.onnx"]
    told = capsys.readouterr().out
    assert f"Calibrated on {FEWEST - FEWEST // 5} images (1 files are no images, such as {folder}/notes.txt)" in told
    before = frozen_backbone(own.model)
    after = frozen_backbone(settings(tmp_path, backbone=f"onnx:{made}").model)
    assert (after.spec, after.feature_length) == (before.spec, before.feature_length)
    assert len(after.graph) < len(before.graph) / 3
    images = np.stack([np.asarray(picture(32, 32, seed=seed)) for seed in range(100, 108)])
    first, second = (GraphEngine(one.graph, EngineConfig(device="cpu")).run(images) for one in (before, after))
    cosine = (first * second).sum(1) / (np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1))
    assert 0.9 < cosine.min() < 1  # others, but near


@pytest.mark.parametrize(
    ("model", "images", "told"),
    [
        ({"backbone": "resnet8"}, 0, "model.backbone = 'resnet8': no frozen network"),
        ({"backbone": "efficientnet_lite0", "input_size": 32}, FEWEST - 1, "15 images that can be read; at least 16"),
    ],
)
def test_what_cannot_be_written_in_integers_is_told_and_leaves_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], model: dict[str, Any], images: int, told: str
):
    folder, made = tmp_path / "photographs", tmp_path / "int8.onnx"
    folder.mkdir()
    for seed in range(images):
        picture(9, 7, seed=seed).save(folder / f"{seed}.png")
    assert write_int8(settings(tmp_path, **model), made, folder) == 2
    assert told in capsys.readouterr().err
    assert not made.exists()


def test_a_file_that_is_there_is_not_written_over_nor_one_where_no_folder_is(
    tmp_path: Path, file: Path, capsys: pytest.CaptureFixture[str]
):
    content = file.read_bytes()
    assert write_int8(settings(tmp_path, backbone="efficientnet_lite0"), file, tmp_path) == 2
    assert "is there already" in capsys.readouterr().err
    assert write_int8(settings(tmp_path, backbone="efficientnet_lite0"), tmp_path / "gone" / "a.onnx", tmp_path) == 2
    assert "there is no folder" in capsys.readouterr().err
    assert file.read_bytes() == content
