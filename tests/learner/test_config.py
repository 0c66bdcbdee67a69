"""A bad configuration is refused in words; good ones say what the network takes."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torchvision

from accrete_learner.backbone_names import torchvision_names
from accrete_learner.config import MethodConfig, ModelConfig, TrainingConfig


@pytest.mark.parametrize(
    ("kind", "fields", "said"),
    [
        (ModelConfig, {"backbone": "resnet19"}, "backbone = 'resnet19': must be .*near it: resnet18"),
        (ModelConfig, {"backbone": "identity"}, "embedding = 0: must be 1 to"),
        (ModelConfig, {"backbone": "identity", "embedding": 4, "weights": "x"}, "weights = 'x': must be empty"),
        (ModelConfig, {"backbone": "onnx:"}, "backbone = 'onnx:': must be .*onnx:FILE"),
        (
            ModelConfig,
            {"backbone": "onnx:/gone.onnx"},
            "backbone = 'onnx:/gone.onnx': No such file or directory; name an",
        ),
        (
            ModelConfig,
            {"backbone": "onnx:x", "input_size": 64, "weights": "x"},
            "weights = 'x': must be empty with onnx:",
        ),
        (
            ModelConfig,
            {"backbone": "onnx:x", "input_size": 64, "layout": "hwc"},
            "layout = 'hwc': must be one of 'auto'",
        ),
        (
            ModelConfig,
            {"backbone": "onnx:x", "input_size": 64, "tokens": "all"},
            "tokens = 'all': must be one of 'mean'",
        ),
        (ModelConfig, {"backbone": "resnet8", "mean": [0.5]}, r"mean = \[0.5\]: is for backbone = 'onnx:FILE' alone"),
        (
            ModelConfig,
            {"backbone": "efficientnet_lite0", "input_size": 225},
            "input_size = 225: efficientnet_lite0 takes",
        ),
        (ModelConfig, {"input_size": 4}, "input_size = 4: must be 8 to"),
        (ModelConfig, {"channels": 4}, "channels = 4: must be 1 or 3"),
        (TrainingConfig, {"epochs": 0}, "epochs = 0: must be 1 to"),
        (ModelConfig, {"shorter_side": 31}, r"shorter_side = 31: must be 0, or input_size \(32\) to 8192 pixels"),
        (TrainingConfig, {"base_epochs": -1}, "base_epochs = -1"),
        (TrainingConfig, {"batch_size": 0}, "batch_size = 0"),
        (TrainingConfig, {"learning_rate": 0.0}, "learning_rate = 0.0: must be above 0"),
        (TrainingConfig, {"learning_rate": float("nan")}, "learning_rate = nan"),
        (TrainingConfig, {"weight_decay": 2.0}, "weight_decay = 2.0"),
        (TrainingConfig, {"threads": -1}, "threads = -1"),
        (TrainingConfig, {"seed": -1}, "seed = -1"),
        (TrainingConfig, {"device": "tpu"}, "device = 'tpu': must be one of 'auto', 'cpu', 'cuda'"),
        (TrainingConfig, {"precision": "float16"}, "precision = 'float16'"),
        (TrainingConfig, {"augmentation": "cutout"}, "augmentation = 'cutout'"),
        (MethodConfig, {"name": "lucid"}, "name = 'lucid': must be one of .*'lucir'"),
        (MethodConfig, {"rule": "forest"}, "rule = 'forest'"),
        (MethodConfig, {"selection": "best"}, "selection = 'best'"),
    ],
)
def test_a_bad_field_is_named_with_its_value_and_what_is_allowed(kind: type, fields: dict[str, Any], said: str):
    with pytest.raises(ValueError, match=said):
        kind(**fields)


def test_an_image_network_takes_bytes_and_an_identity_takes_vectors():
    image, vector = ModelConfig(input_size=16, channels=1), ModelConfig(backbone="identity", embedding=7)
    assert (image.input_shape, image.input_dtype) == ((16, 16, 1), "uint8")
    assert (vector.input_shape, vector.input_dtype) == ((7,), "float32")
    assert str(vector.input_spec) == "float32 [7]"
    assert str(ModelConfig(input_size=224, shorter_side=256).input_spec) == "uint8 [224, 224, 3], the middle of 256"


@pytest.mark.parametrize(
    ("backbone", "size"), [("resnet32", 32), ("resnet8", 32), ("efficientnet_lite0", 224), ("resnet18", 224)]
)
def test_a_backbone_brings_its_own_input_size(backbone: str, size: int):
    assert ModelConfig(backbone=backbone).input_size == size
    assert ModelConfig(backbone=backbone).shorter_side == (256 if backbone == "efficientnet_lite0" else 0)
    assert ModelConfig(backbone=backbone, input_size=64).input_size == 64


def test_the_names_read_from_torchvisions_sources_are_those_it_lists():
    assert torchvision_names() == set(torchvision.models.list_models(module=torchvision.models))


def test_configuration_budget_job_and_metrics_need_no_torch():
    modules = (
        "accrete_learner.config, accrete_learner.memory.config, accrete_learner.trainer.job, accrete_learner.metrics"
    )
    code = f"import sys, {modules}; accrete_learner.config.ModelConfig(backbone='resnet18')"
    check = "assert not {'torch', 'torchvision', 'numpy'} & set(sys.modules)"
    path = f"import sys; sys.path[:0] = {sys.path!r}"
    subprocess.run([sys.executable, "-c", f"{path}; {code}; {check}"], check=True)
