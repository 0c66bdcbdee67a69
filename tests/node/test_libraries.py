"""What an install does not have is told at the start, with what to install."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from accrete_learner import config
from accrete_node.backbones import show
from accrete_node.libraries import check_learning, check_serving
from accrete_node.settings import Settings, SettingsError, load_settings


def settings(tmp_path: Path, **flags: Any) -> Settings:
    return load_settings({"data_dir": tmp_path / "data", **flags}, resolved=True)


def absent(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    for name in modules:
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.parametrize(
    ("check", "missing", "flags", "told"),
    [
        (
            check_learning,
            "torch",
            {"method": {"name": "lucir"}},
            "method.name = 'lucir': it trains a network, and that needs PyTorch, which is not installed "
            "(pip install \"accrete[server]\"); 'analytic' learns without",
        ),
        (
            check_learning,
            "scipy",
            {"method": {"name": "analytic"}},
            "method.name = 'analytic': it needs scipy, not installed here (pip install \"accrete[light]\")",
        ),
        (
            check_serving,
            "torch",
            {"engine": {"engine": "torch"}},
            "engine.engine = 'torch': it needs PyTorch, which is not installed (pip install \"accrete[server]\"); "
            "'onnxruntime' serves without",
        ),
        (
            check_serving,
            "obstore",
            {"artifacts": {"url": "s3://models"}},
            "artifacts.url = 's3://models': it needs obstore, which is not installed (pip install \"accrete[bucket]\")",
        ),
    ],
)
def test_settings_that_need_what_is_not_installed_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check: Any, missing: str, flags: dict[str, Any], told: str
):
    asked = settings(tmp_path, **flags)
    check(asked)
    absent(monkeypatch, missing)
    with pytest.raises(SettingsError) as error:
        check(asked)
    assert error.value.problems == [told]


def test_what_learns_and_serves_without_torch_does_not_ask_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    absent(monkeypatch, "torch", "torchvision", "sklearn")
    photographs = settings(tmp_path, method={"name": "analytic"}, model={"backbone": "efficientnet_lite0"})
    check_learning(photographs)
    check_serving(photographs)


def test_cuda_is_refused_where_onnx_runtime_is_built_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    check_serving(settings(tmp_path))
    with pytest.raises(SettingsError, match=r"engine\.device = 'cuda': .* is the one for CPUs"):
        check_serving(settings(tmp_path, engine={"device": "cuda"}))


def test_a_server_takes_the_name_of_a_network_that_only_its_learner_can_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(ValueError, match="near it: resnet18"):
        config.ModelConfig(backbone="resnet19")
    monkeypatch.setattr(config, "torchvision_names", frozenset)
    assert settings(tmp_path, model={"backbone": "resnet18"}).input_spec.shape == (224, 224, 3)
    with pytest.raises(ValueError, match="backbone = 'resnet 18': must be"):
        config.ModelConfig(backbone="resnet 18")


def test_backbones_that_need_torch_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    absent(monkeypatch, "torch")
    assert show(settings(tmp_path), ["resnet8"], as_json=False) == 2
    assert capsys.readouterr().err == (
        "accrete: model.backbone = 'resnet8': it has to be trained, and that needs PyTorch, which is not installed "
        '(pip install "accrete[server]")\n'
    )
