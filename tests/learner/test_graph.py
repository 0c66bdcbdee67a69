"""A graph filled with a later step's weights is the one that a new trace would give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper

from accrete_learner.backbones import Backbone, build
from accrete_learner.config import ModelConfig
from accrete_learner.onnx_graph import export_graph

pytestmark = pytest.mark.integration

MODELS = [
    ModelConfig(backbone="resnet32"),
    ModelConfig(backbone="resnet8", input_size=8, channels=1),
    ModelConfig(backbone="mobilenet_v3_small", channels=1),
    ModelConfig(backbone="swin_t"),
    ModelConfig(backbone="identity", embedding=6),
]
SMALL = MODELS[1]


def trained(model: ModelConfig, seed: int, *, alike: bool = False) -> Backbone:
    """Every weight another one, as training leaves them, or all that a layer starts with alike."""
    generator = torch.Generator().manual_seed(seed)
    backbone = build(model, generator=generator)
    for weight in backbone.parameters() if not alike else ():
        weight.data += 0.01 * torch.rand(weight.shape, generator=generator)
    for name, buffer in backbone.named_buffers():
        if "running" in name and not alike:
            buffer += torch.rand(buffer.shape, generator=generator)
    return backbone.eval().requires_grad_(False)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.backbone)
def test_a_later_steps_graph_is_the_same_without_a_trace(
    model: ModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    first, second = trained(model, 1), trained(model, 2)
    (tmp_path / "first.onnx").write_bytes(export_graph(first))
    (tmp_path / "traced.onnx").write_bytes(export_graph(second))
    monkeypatch.setattr(torch.onnx, "export", None)
    (tmp_path / "filled.onnx").write_bytes(export_graph(second, tmp_path / "first.onnx"))
    assert (tmp_path / "filled.onnx").read_bytes() == (tmp_path / "traced.onnx").read_bytes()


def test_a_network_is_traced_once_in_a_process_and_another_one_apart(monkeypatch: pytest.MonkeyPatch):
    first, second, other = trained(SMALL, 1), trained(SMALL, 2), build(SMALL, last_relu=True).eval()
    traced = export_graph(second)
    export_graph(first, network="of this test")
    assert export_graph(other, network="its other one") == export_graph(other) != traced
    monkeypatch.setattr(torch.onnx, "export", None)
    assert export_graph(second, network="of this test") == traced


def test_weights_that_were_alike_each_have_a_place_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "first.onnx").write_bytes(export_graph(trained(SMALL, 1, alike=True)))
    monkeypatch.setattr(torch.onnx, "export", None)
    backbone = trained(SMALL, 2)
    (tmp_path / "second.onnx").write_bytes(export_graph(backbone, tmp_path / "first.onnx"))
    batch = np.random.default_rng(3).integers(0, 256, (5, *backbone.input_shape), dtype=np.uint8)
    runner = onnxruntime.InferenceSession(str(tmp_path / "second.onnx"), providers=["CPUExecutionProvider"])
    wanted = backbone(torch.from_numpy(batch)).numpy()
    np.testing.assert_allclose(runner.run(["features"], {"input": batch})[0], wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("of", ["another release", "another network"])
def test_a_graph_that_is_not_this_networks_is_not_filled(of: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    model = SMALL if of == "another release" else ModelConfig(backbone="resnet8", input_size=8, channels=3)
    (tmp_path / "first.onnx").write_bytes(export_graph(trained(model, 1)))
    if of == "another release":
        graph = onnx.load(tmp_path / "first.onnx")
        helper.set_model_props(graph, {"accrete": "0.0.1, torch 2.0"})
        onnx.save(graph, tmp_path / "first.onnx")
    monkeypatch.setattr(torch.onnx, "export", None)
    with pytest.raises(TypeError):
        (tmp_path / "second.onnx").write_bytes(export_graph(trained(SMALL, 2), tmp_path / "first.onnx"))
