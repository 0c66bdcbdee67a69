"""Artifacts as the trainer writes them, in every engine."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from accrete_learner.backbones import build
from accrete_learner.config import ModelConfig
from accrete_learner.export import Candidate, write
from accrete_model.config import EngineConfig
from accrete_model.errors import LoadError
from accrete_model.loaded_version import load

pytestmark = pytest.mark.integration

LABELS = ("cat", "dog", "owl")


def _write(folder, model: ModelConfig, *, head="linear", rule="head", last_relu=False, features="last"):
    generator = torch.Generator().manual_seed(1)
    backbone = build(model, generator=generator, last_relu=last_relu, features=features).eval()
    length = backbone.feature_length
    rows = torch.randn((3, length), generator=generator)
    tensors = {"weight": rows, "means": torch.nn.functional.normalize(rows, dim=1)}
    tensors |= {"bias": torch.randn(3, generator=generator)} if head == "linear" else {"scale": torch.tensor([8.0])}
    if model.input_dtype == "uint8":
        inputs = torch.randint(0, 256, (5, *model.input_shape), dtype=torch.uint8, generator=generator)
    else:
        inputs = torch.randn((5, *model.input_shape), generator=generator)
    candidate = Candidate(
        backbone=backbone,
        head=tensors,
        labels=LABELS,
        model=model,
        method="finetune",
        rule=rule,
        last_relu=last_relu,
    )
    write(folder, candidate, inputs)
    return folder


NETWORKS = {
    "resnet8": ModelConfig(backbone="resnet8", input_size=8, channels=1),
    "resnet32": ModelConfig(backbone="resnet32", input_size=32, channels=3),
    "identity": ModelConfig(backbone="identity", embedding=12),
}


@pytest.mark.parametrize("engine", ["onnxruntime", "torch"])
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("head", "rule"), [("linear", "head"), ("cosine", "head"), ("cosine", "nme")])
def test_every_engine_computes_what_the_trainer_computed(tmp_path, name, engine, head, rule):
    path = _write(tmp_path / "v", NETWORKS[name], head=head, rule=rule)
    loaded = load(path, 1, EngineConfig(engine=engine, device="cpu"))
    assert loaded.engine_name == {"onnxruntime": "onnxruntime CPUExecutionProvider", "torch": "torch cpu"}[engine]
    assert loaded.labels == LABELS
    loaded.close()


@pytest.mark.parametrize(("last_relu", "features"), [(False, "last"), (True, "last"), (True, "blocks")])
def test_the_engines_agree_on_any_batch(tmp_path, last_relu, features):
    path = _write(tmp_path / "v", NETWORKS["resnet8"], last_relu=last_relu, features=features)
    batch = np.random.default_rng(3).integers(0, 256, (37, 8, 8, 1), dtype=np.uint8)
    batch.flags.writeable = False  # as a view of a request's bytes is
    some, others = (load(path, 1, EngineConfig(engine=engine, device="cpu")) for engine in ("onnxruntime", "torch"))
    np.testing.assert_allclose(some.features(batch), others.features(batch), rtol=1e-3, atol=1e-4)


def test_weights_of_another_backbone_are_refused(tmp_path):
    path = _write(tmp_path / "v", NETWORKS["resnet8"])
    other = _write(tmp_path / "w", NETWORKS["resnet32"])
    (path / "weights.safetensors").write_bytes((other / "weights.safetensors").read_bytes())
    with pytest.raises(LoadError, match=r"weights\.safetensors"):
        load(path, 1, EngineConfig(engine="torch", device="cpu"))
