"""The files of a version answer as the trained network does."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from accrete_learner import evaluate, export, fitting
from accrete_learner.backbones import Backbone, build
from accrete_learner.config import ModelConfig
from accrete_learner.onnx_graph import export_graph
from accrete_model.files import GOLDEN_FILE, GRAPH_FILE, HEAD_FILE, MODEL_FILE, RULE_FILE, WEIGHTS_FILE

pytestmark = pytest.mark.integration

MODELS = [
    ModelConfig(backbone="resnet32"),
    ModelConfig(backbone="resnet8", input_size=8, channels=1),
    ModelConfig(backbone="resnet18", input_size=64),
    ModelConfig(backbone="mobilenet_v3_small", channels=1),
    ModelConfig(backbone="identity", embedding=6),
]


def candidate(model: ModelConfig, *, head: str = "cosine", rule: str = "head") -> export.Candidate:
    generator = torch.Generator().manual_seed(4)
    backbone = build(model, generator=generator)
    tensors = {"weight": torch.randn(3, backbone.feature_length, generator=generator)}
    tensors["means"] = F.normalize(torch.randn(3, backbone.feature_length, generator=generator), dim=1)
    tensors |= {"scale": torch.tensor([7.0])} if head == "cosine" else {"bias": torch.tensor([0.1, 0.2, 0.3])}
    return export.Candidate(
        backbone=backbone, head=tensors, labels=("a", "b", "c"), model=model, method="lucir", rule=rule
    )


def examples(model: ModelConfig, count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    if model.input_dtype == "float32":
        return torch.randn(count, *model.input_shape, generator=generator)
    return torch.randint(0, 256, (count, *model.input_shape), dtype=torch.uint8, generator=generator)


def session(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.backbone)
def test_the_graph_answers_what_the_network_answers_for_any_batch(model: ModelConfig, tmp_path: Path):
    made = candidate(model)
    export.write(tmp_path / "candidate", made, examples(model, 2))
    runner = session(tmp_path / "candidate" / GRAPH_FILE)
    made.backbone.eval()
    for count in (1, 2, 5):
        batch = examples(model, count)
        (features,) = runner.run(["features"], {"input": batch.numpy()})
        wanted = made.backbone(batch).detach().numpy()
        assert features.dtype == np.float32
        np.testing.assert_allclose(features, wanted, rtol=1e-3, atol=1e-4 * max(1.0, float(np.abs(wanted).max())))


@pytest.mark.parametrize("model", [MODELS[1], MODELS[4]], ids=lambda model: model.backbone)
def test_the_graph_takes_examples_as_stored_with_the_batch_axis_free(model: ModelConfig, tmp_path: Path):
    export.write(tmp_path / "candidate", candidate(model), examples(model, 1))
    graph = onnx.load(tmp_path / "candidate" / GRAPH_FILE)
    onnx.checker.check_model(graph, full_check=True)
    (taken,) = session(tmp_path / "candidate" / GRAPH_FILE).get_inputs()
    assert (taken.name, taken.shape, taken.type) == (
        "input",
        ["N", *model.input_shape],
        f"tensor({'float' if model.input_dtype == 'float32' else 'uint8'})",
    )
    assert [(opset.domain, opset.version) for opset in graph.opset_import] == [("", 17)]


@pytest.mark.parametrize("head", ["cosine", "linear"])
@pytest.mark.parametrize("rule", ["head", "nme"])
def test_golden_answers_follow_the_rule_and_the_head(head: str, rule: str, tmp_path: Path):
    model = MODELS[1]
    export.write(tmp_path / "candidate", candidate(model, head=head, rule=rule), examples(model, 3))
    golden = load_file(tmp_path / "candidate" / GOLDEN_FILE)
    saved = load_file(tmp_path / "candidate" / HEAD_FILE)
    assert {name: list(tensor.shape) for name, tensor in golden.items()} == {
        "input": [8, 8, 8, 1],
        "features": [8, 128],
        "probabilities": [8, 3],
    }
    runner = session(tmp_path / "candidate" / GRAPH_FILE)
    (features,) = runner.run(["features"], {"input": golden["input"].numpy()})
    torch.testing.assert_close(torch.from_numpy(features), golden["features"], rtol=1e-3, atol=1e-3)
    unit = F.normalize(golden["features"], dim=1)
    if rule == "nme":
        scores = 10.0 * unit @ saved["means"].T
    elif head == "cosine":
        scores = 7.0 * unit @ F.normalize(saved["weight"], dim=1).T
    else:
        scores = golden["features"] @ saved["weight"].T + saved["bias"]
    torch.testing.assert_close(scores.softmax(1), golden["probabilities"], rtol=1e-4, atol=1e-5)


def test_the_description_is_complete_and_names_no_file(tmp_path: Path):
    model = MODELS[1]
    export.write(tmp_path / "candidate", candidate(model, head="linear", rule="nme"), examples(model, 3))
    assert json.loads((tmp_path / "candidate" / MODEL_FILE).read_text()) == {
        "schema": 1,
        "backbone": "resnet8",
        "last_relu": False,
        "input": {"shape": [8, 8, 1], "dtype": "uint8"},
        "feature_length": 128,
        "labels": ["a", "b", "c"],
        "head": "linear",
        "rule": "nme",
        "method": "lucir",
        "nme_scale": 10.0,
    }


def test_exactly_the_artifacts_files_are_written_readable_as_the_umask_says(tmp_path: Path):
    model = MODELS[1]
    export.write(tmp_path / "candidate", candidate(model), examples(model, 1))
    (tmp_path / "plain").touch()
    mode = stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    written = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "candidate").iterdir()}
    names = ("model.json", "graph.onnx", "weights.safetensors", "head.safetensors", "golden.safetensors")
    assert written == dict.fromkeys(names, mode)


@pytest.mark.parametrize("rule", fitting.FITS)
def test_a_rule_fitted_on_features_travels_in_a_file_of_its_own(rule: str, tmp_path: Path):
    generator = torch.Generator().manual_seed(6)
    x, y = torch.randn(6, 128, generator=generator, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1, 2])
    tensors = fitting.fit(rule, x, y, class_count=3, generator=generator)
    made = replace(candidate(MODELS[1]), rule=rule, rule_tensors=tensors)
    export.write(tmp_path / "candidate", made, examples(MODELS[1], 3))
    saved = load_file(tmp_path / "candidate" / RULE_FILE)
    golden = load_file(tmp_path / "candidate" / GOLDEN_FILE)
    assert json.loads((tmp_path / "candidate" / MODEL_FILE).read_text())["rule"] == rule
    scores = evaluate.scores(rule, golden["features"], load_file(tmp_path / "candidate" / HEAD_FILE), saved)
    torch.testing.assert_close(scores.softmax(1), golden["probabilities"])


def test_a_head_of_random_features_is_named_and_whole_numbers_stay_whole(tmp_path: Path):
    made = candidate(MODELS[1], head="linear")
    projection = torch.randn(128, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    head = {**made.head, "weight": torch.randn(3, 9), "projection": projection, "blocks": torch.tensor([0, 0, 1])}
    export.write(tmp_path / "candidate", replace(made, head=head), examples(MODELS[1], 1))
    saved = load_file(tmp_path / "candidate" / HEAD_FILE)
    assert json.loads((tmp_path / "candidate" / MODEL_FILE).read_text())["head"] == "random_features"
    assert (saved["projection"].dtype, saved["blocks"].tolist()) == (torch.float32, [0, 0, 1])
    assert saved["blocks"].dtype == torch.int64


def test_the_weights_rebuild_the_network(tmp_path: Path):
    model = MODELS[1]
    made = candidate(model)
    export.write(tmp_path / "candidate", made, examples(model, 1))
    again = build(model)
    again.load_state_dict(load_file(tmp_path / "candidate" / WEIGHTS_FILE))
    assert torch.equal(again.eval()(examples(model, 2)), made.backbone.eval()(examples(model, 2)))


def test_exporting_leaves_a_network_in_training_as_it_was(tmp_path: Path):
    made = candidate(MODELS[1])
    made.backbone.train().to(memory_format=torch.channels_last)
    export.write(tmp_path / "candidate", made, examples(MODELS[1], 1))
    assert made.backbone.training
    assert all(parameter.requires_grad for parameter in made.backbone.parameters())


def test_a_backbone_that_cannot_be_served_at_its_image_size_is_told_before_it_is_trained():
    model = ModelConfig(backbone="alexnet", input_size=64)
    backbone = build(model)
    with pytest.raises(
        ValueError, match=r"cannot be served with inputs of \(64, 64, 3\): .*adaptive_avg_pool2d"
    ) as caught:
        export.check_exportable(backbone, model, last_relu=False)
    assert len(str(caught.value)) < 400


def test_attention_is_exported_and_its_fast_form_left_on(tmp_path: Path):
    class Attentive(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = torch.nn.MultiheadAttention(3, 1, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            tokens = x.flatten(2).transpose(1, 2)
            mixed: torch.Tensor = self.attention(tokens, tokens, tokens, need_weights=False)[0].mean(1)
            return mixed

    backbone = Backbone(Attentive(), 3, (8, 8, 3), torch.zeros(3), torch.ones(3)).eval().requires_grad_(False)
    (tmp_path / "graph.onnx").write_bytes(export_graph(backbone))
    batch = examples(MODELS[0], 3)[:, :8, :8]
    (features,) = session(tmp_path / "graph.onnx").run(["features"], {"input": batch.numpy()})
    np.testing.assert_allclose(features, backbone(batch).numpy(), rtol=1e-3, atol=1e-5)
    assert torch.backends.mha.get_fastpath_enabled()


@pytest.mark.parametrize("where", ["head", "backbone", "rule"])
def test_a_model_that_is_not_finite_is_never_written(where: str, tmp_path: Path):
    made = replace(candidate(MODELS[1]), rule_tensors={"x": torch.zeros(1)})
    places = {"head": made.head["weight"], "rule": made.rule_tensors["x"]}
    places["backbone"] = next(made.backbone.parameters()).data
    places[where].view(-1)[0] = float("nan")
    with pytest.raises(ValueError, match="is not finite"):
        export.write(tmp_path / "candidate", made, examples(MODELS[1], 1))
    assert not (tmp_path / "candidate").exists()
