"""Every backbone takes examples as they are stored, normalises them itself, and can be built again from its weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import models

from accrete_learner.backbones import build, torchvision_, weights
from accrete_learner.backbones.cifar import BasicBlock
from accrete_learner.config import ModelConfig
from accrete_learner.ranks import ALONE

OURS = [
    ModelConfig(backbone="resnet32"),
    ModelConfig(backbone="resnet32", input_size=64, channels=1),
    ModelConfig(backbone="resnet8"),
    ModelConfig(backbone="resnet8", input_size=8),
    ModelConfig(backbone="resnet8", input_size=16, channels=1),
]
TORCHVISIONS = [
    ModelConfig(backbone="resnet18"),
    ModelConfig(backbone="resnet18", channels=1),
    ModelConfig(backbone="mobilenet_v3_small"),
    ModelConfig(backbone="squeezenet1_1", input_size=64),
    ModelConfig(backbone="shufflenet_v2_x0_5"),
    ModelConfig(backbone="googlenet", input_size=64),
]
IDENTITY = ModelConfig(backbone="identity", embedding=5)


def name(config: ModelConfig) -> str:
    return f"{config.backbone}-{config.input_size}-{config.channels}"


def examples(config: ModelConfig, count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    if config.backbone == "identity":
        return torch.randn(count, *config.input_shape, generator=generator)
    return torch.randint(0, 256, (count, *config.input_shape), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("config", [*OURS, *TORCHVISIONS, IDENTITY], ids=name)
def test_stored_examples_become_float_features_of_the_length_it_says(config: ModelConfig, generator: torch.Generator):
    backbone = build(config, generator=generator)
    for mode in (True, False):
        features = backbone.train(mode)(examples(config, 3))
        assert features.shape == (3, backbone.feature_length)
        assert features.dtype == torch.float32
        assert torch.isfinite(features).all()
    assert backbone.input_shape == config.input_shape


@pytest.mark.parametrize("config", [OURS[0], OURS[3], TORCHVISIONS[0], TORCHVISIONS[2]], ids=name)
def test_a_seed_decides_the_weights_and_torchs_own_generator_is_left_alone(config: ModelConfig):
    before = torch.random.get_rng_state()
    made = [build(config, generator=torch.Generator().manual_seed(seed)).state_dict() for seed in (1, 1, 2)]
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(made[0][key], made[1][key]) for key in made[0])
    assert any(not torch.equal(made[0][key], made[2][key]) for key in made[0])


@pytest.mark.parametrize("config", [OURS[0], OURS[4], TORCHVISIONS[3], IDENTITY], ids=name)
def test_its_state_is_all_that_another_of_its_kind_needs(config: ModelConfig, tmp_path: Path):
    first = build(config, generator=torch.Generator().manual_seed(1)).eval()
    second = build(config, generator=torch.Generator().manual_seed(2)).eval()
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(examples(config, 2)), second(examples(config, 2)))


def test_pixels_are_normalised_with_cifars_mean_and_deviation(generator: torch.Generator):
    image = examples(OURS[0], 1)
    mean, std = torch.tensor((0.5071, 0.4867, 0.4408)), torch.tensor((0.2675, 0.2565, 0.2761))
    wanted = ((image.double() / 255 - mean) / std).permute(0, 3, 1, 2)
    assert torch.allclose(build(OURS[0], generator=generator).prepare(image).double(), wanted, atol=1e-5)


def test_a_grey_image_means_to_a_torchvision_network_what_it_means_in_colour():
    grey = build(TORCHVISIONS[1], generator=torch.Generator().manual_seed(1)).eval()
    colour = build(TORCHVISIONS[0], generator=torch.Generator().manual_seed(1)).eval()
    image = examples(TORCHVISIONS[1], 2)
    assert torch.allclose(grey(image), colour(image.expand(-1, -1, -1, 3)), atol=1e-5)


def test_resnet32_has_the_papers_size(generator: torch.Generator):
    backbone = build(OURS[0], generator=generator)
    convolutions = [module for module in backbone.modules() if isinstance(module, nn.Conv2d)]
    assert backbone.feature_length == 64
    # 31 layers of 3 x 3 and, for option B, two shortcuts; the classifier is the 32nd.
    assert [convolution.kernel_size for convolution in convolutions].count((3, 3)) == 31
    assert len(convolutions) == 33
    # Option A's 463,504, and the two shortcuts' 16 x 32 + 32 x 64 weights and their normalisation.
    assert sum(parameter.numel() for parameter in backbone.parameters()) == 463_504 + 512 + 64 + 2048 + 128


@pytest.mark.parametrize("config", [OURS[0], OURS[2]], ids=name)
def test_features_can_be_negative_unless_a_last_relu_is_asked_for(config: ModelConfig, generator: torch.Generator):
    answers = []
    for last_relu in (False, True):
        backbone = build(config, generator=generator, last_relu=last_relu)
        # A fresh network's features are hardly ever negative; a trained one may push them there.
        final = [module for module in backbone.modules() if isinstance(module, BasicBlock)][-1]
        nn.init.constant_(final.bn2.bias, -2.0)
        answers.append(backbone(examples(config, 8)))
    assert (answers[0] < 0).any()
    assert (answers[1] >= 0).all()


@pytest.mark.parametrize("config", [OURS[0], OURS[2]], ids=name)
def test_features_of_all_blocks_are_means_and_deviations_whitened(config: ModelConfig, generator: torch.Generator):
    backbone, x = build(config, generator=generator).eval(), examples(config, 6)
    wanted: list[Tensor] = []

    def keep(block: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(block, BasicBlock)
        between = F.relu(block.bn1(block.conv1(inputs[0])))
        wanted.extend((output.mean((2, 3)), output.std((2, 3), correction=0), between.mean((2, 3))))

    hooks = [block.register_forward_hook(keep) for block in backbone.network.get_submodule("layers").children()]
    backbone(x)
    for hook in hooks:
        hook.remove()
    backbone.choose_features("blocks")
    of_blocks = backbone.of_all_blocks(x)
    torch.testing.assert_close(of_blocks, torch.cat(wanted, dim=1))
    features = backbone.whiten(of_blocks, torch.tensor([0, 0, 0, 1, 1, 1]), ALONE)
    assert features.shape == (6, backbone.feature_length)
    torch.testing.assert_close(backbone(x), features)
    again = build(config, features="blocks").eval()
    weights.load(again, backbone.state_dict(), source="the first")
    torch.testing.assert_close(again(x), features)


def test_weights_of_a_version_with_features_of_all_blocks_begin_another_network(tmp_path: Path):
    source = build(OURS[3], features="blocks")
    save_file(source.state_dict(), tmp_path / "weights.safetensors")
    loaded = build(dataclasses.replace(OURS[3], weights=str(tmp_path / "weights.safetensors"))).state_dict()
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in loaded.items())


def test_features_of_all_blocks_can_be_trained_where_a_channel_is_flat(generator: torch.Generator):
    backbone = build(OURS[2], generator=generator, features="blocks").train()
    first = [module for module in backbone.modules() if isinstance(module, BasicBlock)][0]
    nn.init.constant_(first.bn2.bias, -1e6)
    backbone(examples(OURS[2], 2)).square().sum().backward()
    slopes = [parameter.grad for parameter in backbone.parameters() if parameter.grad is not None]
    assert slopes
    assert all(torch.isfinite(slope).all() for slope in slopes)


def test_features_of_one_example_are_whitened_to_nothing(generator: torch.Generator):
    backbone = build(OURS[2], generator=generator, features="blocks").eval()
    backbone.whiten(backbone.of_all_blocks(examples(OURS[2], 1)), torch.tensor([0]), ALONE)
    assert not backbone(examples(OURS[2], 1)).any()


@pytest.mark.parametrize("config", [TORCHVISIONS[0], ModelConfig(backbone="identity", embedding=5)], ids=name)
def test_networks_that_cannot_give_all_blocks_features_give_the_last(config: ModelConfig, generator: torch.Generator):
    backbone = build(config, generator=generator, features="blocks")
    assert backbone.features == "last"
    assert backbone.feature_length == build(config, generator=generator).feature_length


@pytest.mark.parametrize(("size", "side"), [(8, 2), (16, 4), (32, 4), (64, 8)])
def test_resnet8_keeps_positions_to_tell_shapes_apart(size: int, side: int, generator: torch.Generator):
    backbone = build(ModelConfig(backbone="resnet8", input_size=size), generator=generator)
    shapes: list[torch.Size] = []
    layers = backbone.network.get_submodule("layers")
    layers.register_forward_hook(lambda module, inputs, output: shapes.append(output.shape))
    backbone(examples(ModelConfig(input_size=size), 2))
    assert shapes[0][2:] == (side, side)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("config", [OURS[3], TORCHVISIONS[0]], ids=name)
def test_weights_come_from_a_file_of_the_networks_state(config: ModelConfig, suffix: str, tmp_path: Path):
    source = build(config, generator=torch.Generator().manual_seed(1))
    state = dict(source.network.state_dict()) | {"fc.weight": torch.zeros(7, source.feature_length)}
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": state, "epoch": 3}, path)
    else:
        save_file(state, path)
    loaded = build(dataclasses.replace(config, weights=str(path)), generator=torch.Generator().manual_seed(2))
    assert torch.equal(loaded.eval()(examples(config, 2)), source.eval()(examples(config, 2)))


def test_weights_come_from_an_artifact_too(tmp_path: Path):
    source = build(OURS[3], generator=torch.Generator().manual_seed(1))
    save_file(source.state_dict(), tmp_path / "weights.safetensors")
    loaded = build(dataclasses.replace(OURS[3], weights=str(tmp_path / "weights.safetensors")))
    assert torch.equal(loaded.eval()(examples(OURS[3], 2)), source.eval()(examples(OURS[3], 2)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: state.pop("conv1.weight"), "lacks 'conv1.weight'"),
        (lambda state: state.update({"more": torch.zeros(1)}), "has 'more'"),
        (lambda state: state.update({"conv1.weight": torch.zeros(1)}), r"'conv1.weight' is \[1\] where"),
    ],
)
def test_weights_of_another_network_are_refused_by_their_first_difference(change, said: str, tmp_path: Path):
    state = dict(build(OURS[3]).network.state_dict())
    change(state)
    save_file(state, tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match=said):
        build(dataclasses.replace(OURS[3], weights=str(tmp_path / "weights.safetensors")))


def test_a_file_of_something_else_and_an_unknown_name_of_weights_are_refused(tmp_path: Path):
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="holds no state dict"):
        build(ModelConfig(weights=str(tmp_path / "list.pth")))
    with pytest.raises(ValueError, match="neither a file nor a name of resnet18's weights, which are: IMAGENET1K_V1"):
        build(ModelConfig(backbone="resnet18", weights="IMAGENET21K"))
    with pytest.raises(FileNotFoundError):
        build(ModelConfig(weights=str(tmp_path / "missing.pth")))


def test_weights_in_the_users_own_cache_are_not_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    kept = tmp_path / "torch" / "hub" / "checkpoints" / "squeezenet1_1-b8a52dc0.pth"
    kept.parent.mkdir(parents=True)
    torch.save(models.get_model("squeezenet1_1", weights=None).state_dict(), kept)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "data"))
    assert "classifier.1.weight" in torchvision_.pretrained("squeezenet1_1", "DEFAULT")
    assert not (tmp_path / "data").exists()
