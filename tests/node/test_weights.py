"""What is wrong with a backbone's weights or form is told at the start, with the setting and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from accrete_learner import torchvision_weights
from accrete_learner.backbone_names import torchvision_names
from accrete_learner.backbones import build
from accrete_learner.config import ModelConfig
from accrete_model.frozen import efficientnet_lite0
from accrete_node.settings import Settings, SettingsError
from accrete_node.weights import check_fit, check_weights

UNREACHABLE = "http://127.0.0.1:9"
"""The port for what is thrown away, at which nothing listens."""


def settings(tmp_path: Path, **model: Any) -> Settings:
    made = Settings(data_dir=tmp_path, model=model)  # type: ignore[arg-type]
    assert isinstance(made.model, ModelConfig)
    return made


def told(check: Any, tmp_path: Path, **model: Any) -> str:
    with pytest.raises(SettingsError) as error:
        check(settings(tmp_path, **model))
    (problem,) = error.value.problems
    return problem


def test_the_addresses_read_from_torchvisions_sources_are_its_own():
    from torchvision import models

    for name in torchvision_names():
        members = models.get_model_weights(name).__members__
        assert torchvision_weights.addresses(name) == {key: value.url for key, value in members.items()}, name


def test_weights_that_would_have_to_be_downloaded_without_a_network_are_told_with_their_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("https_proxy", UNREACHABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    problem = told(check_weights, tmp_path, backbone="resnet18", weights="DEFAULT")
    address = "https://download.pytorch.org/models/resnet18-f37072fd.pth"
    assert problem.startswith(
        f"model.weights = 'DEFAULT': they have to be downloaded from {address}, which this machine"
    )
    assert problem.endswith("download the file elsewhere, and set model.weights to its path here")


@pytest.mark.parametrize("folder", ["home/torch", "cache/torch"])
def test_weights_that_were_downloaded_need_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str):
    monkeypatch.setenv("https_proxy", UNREACHABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    file = tmp_path / folder / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    file.parent.mkdir(parents=True)
    file.touch()
    check_weights(settings(tmp_path, backbone="resnet18", weights="IMAGENET1K_V1"))


def test_a_name_that_torchvision_does_not_know_is_told_with_those_that_it_does(tmp_path: Path):
    problem = told(check_weights, tmp_path, backbone="resnet18", weights="IMAGENET1K_V2")
    assert problem == (
        "model.weights = 'IMAGENET1K_V2': neither a file nor a name of resnet18's weights, which are: IMAGENET1K_V1, "
        "DEFAULT"
    )


def test_the_default_weights_of_the_frozen_backbone_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    check_weights(settings(tmp_path, backbone="efficientnet_lite0"))
    monkeypatch.setattr("sys.path", [])
    problem = told(check_weights, tmp_path, backbone="efficientnet_lite0")
    assert problem.startswith(
        "model.backbone = 'efficientnet_lite0': the weights of efficientnet_lite0 are not installed"
    )


def test_a_file_that_is_used_as_it_is_goes_with_a_method_that_trains_nothing(tmp_path: Path):
    file = tmp_path / "net.onnx"
    file.write_bytes(efficientnet_lite0.build(64).graph)
    problem = told(check_weights, tmp_path, backbone=f"onnx:{file}")
    assert problem == (
        f"model.backbone = 'onnx:{file}': it is used as it is, and method 'lucir' trains the network; "
        "set method.name = 'analytic'"
    )


def test_a_form_that_does_not_fit_the_file_is_told(tmp_path: Path):
    file = tmp_path / "net.onnx"
    file.write_bytes(efficientnet_lite0.build(64).graph)
    check_fit(settings(tmp_path, backbone=f"onnx:{file}"))
    assert settings(tmp_path, backbone=f"onnx:{file}").model.input_size == 64
    problem = told(check_fit, tmp_path, backbone=f"onnx:{file}", mean=[0.5])
    assert problem == f"model.mean = [0.5]: {file} takes uint8 and scales it itself; leave it empty"
    problem = told(check_fit, tmp_path, backbone=f"onnx:{file}", input_size=96)
    assert problem.startswith(
        f"model.input_size = 96: {file} takes images of 64 x 64 pixels; set model.input_size = 64"
    )


@pytest.mark.parametrize("backbone", ["resnet8", "efficientnet_lite0"])
def test_weights_of_another_network_are_told(tmp_path: Path, backbone: str):
    file = tmp_path / "weights.safetensors"
    save_file({"x": np.zeros(1, np.float32)}, file)
    problem = told(check_fit, tmp_path, backbone=backbone, weights=str(file))
    assert problem.startswith(f"model.weights = '{file}': ")
    assert ("lacks 'conv1.weight'" if backbone == "resnet8" else "has no '_conv_stem.weight'") in problem
    file.write_bytes(b"nothing")
    assert str(file) in told(check_fit, tmp_path, backbone=backbone, weights=str(file))


def test_weights_that_fit_are_taken(tmp_path: Path):
    file = tmp_path / "weights.pth"
    torch.save(build(ModelConfig(backbone="resnet8")).network.state_dict(), file)
    check_fit(settings(tmp_path, backbone="resnet8", weights=str(file)))
