"""Weight transfer: what is frozen, what learns, and that folding changes nothing."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from accrete_learner.augmentation.augment import Augmentation
from accrete_learner.backbones import Backbone, build
from accrete_learner.config import ModelConfig
from accrete_learner.heads import LinearHead
from accrete_learner.losses import CrossEntropy
from accrete_learner.training.loop import TrainingSet, train
from accrete_learner.training.network import Network
from accrete_learner.training.schedule import Schedule
from accrete_learner.training.weight_transfer import scale_and_shift

RESNET8 = ModelConfig(backbone="resnet8", input_size=8, channels=1)
CHOICES = [RESNET8, ModelConfig(backbone="resnet32", input_size=8), ModelConfig(backbone="resnet18", input_size=32)]


def backbone(config: ModelConfig) -> Backbone:
    return build(config, generator=torch.Generator().manual_seed(0)).to(memory_format=torch.channels_last).eval()


def images(config: ModelConfig, count: int = 4) -> torch.Tensor:
    shape = (count, *config.input_shape)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def descend(network: nn.Module, x: torch.Tensor, steps: int = 2) -> None:
    """As the training loop does it: gradients are asked of every parameter, and decay pulls at those that get one."""
    network.requires_grad_(True).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, weight_decay=0.01)
    for _ in range(steps):
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(network(x).square().mean())
        optimizer.step()
    network.eval()


def originals(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in network.named_parameters() if name.endswith(".original")}


def kernels(network: nn.Module) -> list[nn.Parameter]:
    return [value for name, value in network.named_parameters() if name.endswith("weight") and value.dim() == 4]


@pytest.mark.parametrize("config", CHOICES, ids=lambda config: config.backbone)
def test_entering_changes_no_output(config: ModelConfig):
    network, x = backbone(config), images(config)
    with torch.no_grad():
        before = network(x)
        with scale_and_shift(network):
            assert torch.equal(network(x), before)
        assert torch.equal(network(x), before)


@pytest.mark.parametrize("config", CHOICES, ids=lambda config: config.backbone)
def test_leaving_folds_what_was_learnt_into_plain_weights_of_the_old_names(config: ModelConfig):
    network, x = backbone(config), images(config)
    names = list(network.state_dict())
    with torch.no_grad():
        untrained = network(x)
    with scale_and_shift(network):
        descend(network, x)
        with torch.no_grad():
            learnt = network(x)
    with torch.no_grad():
        assert torch.allclose(network(x), learnt, atol=1e-5)
    assert not torch.allclose(learnt, untrained, atol=1e-2)
    assert list(network.state_dict()) == names
    assert all(type(module) is nn.Conv2d for module in network.modules() if isinstance(module, nn.Conv2d))
    backbone(config).load_state_dict(network.state_dict())


def test_filters_stay_while_one_scale_a_channel_pair_learns():
    network = backbone(RESNET8)
    with scale_and_shift(network):
        before = originals(network)
        descend(network, images(RESNET8))
        after = originals(network)
        scales = {name: value.detach() for name, value in network.named_parameters() if name.endswith(".scale")}
        assert before.keys() == after.keys()
        assert all(torch.equal(before[name], after[name]) for name in before)
        assert len(scales) == len(before) == sum(isinstance(module, nn.Conv2d) for module in network.modules())
        assert all(float((scale - 1).abs().max()) > 0 for scale in scales.values())
        assert sum(scale.numel() for scale in scales.values()) * 4 < sum(weight.numel() for weight in before.values())


def test_every_folded_kernel_is_a_multiple_of_the_kernel_before():
    network = backbone(RESNET8)
    before = [kernel.detach().clone() for kernel in kernels(network)]
    with scale_and_shift(network):
        descend(network, images(RESNET8))
    for kernel, old in zip(kernels(network), before, strict=True):
        ratio = kernel.detach() / old
        assert torch.allclose(ratio, ratio[:, :, :1, :1].expand_as(ratio), rtol=1e-4)
        assert float((ratio - 1).abs().max()) > 0


def test_the_training_loop_needs_to_know_nothing_of_it():
    network = Network(
        backbone(RESNET8), LinearHead(torch.zeros(0, 128), torch.zeros(3, 128), torch.zeros(0), torch.zeros(3))
    )
    data = TrainingSet(x=images(RESNET8), y=torch.arange(4) % 3, fresh=torch.ones(4, dtype=torch.bool))
    with scale_and_shift(network.backbone):
        before = originals(network)
        train(
            network,
            data,
            [CrossEntropy()],
            Schedule(epochs=2, batch_size=2),
            augmentation=Augmentation(crops=True, flips=False),
            generator=torch.Generator().manual_seed(0),
            report=lambda *_: None,
        )
        after = originals(network)
        assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(value.requires_grad and value.grad is None for value in kernels(network))


def test_a_shift_before_batch_normalisation_would_learn_nothing():
    torch.manual_seed(0)
    shift = torch.zeros(1, 5, 1, 1, dtype=torch.float64, requires_grad=True)
    made = torch.randn(6, 5, 4, 4, dtype=torch.float64) + shift
    normalised: torch.Tensor = nn.BatchNorm2d(5).double()(made)
    loss = (normalised * torch.randn(6, 5, 4, 4, dtype=torch.float64)).sum()
    (gradient,) = torch.autograd.grad(loss, shift)
    assert float(gradient.abs().max()) < 1e-12


def test_a_convolution_with_a_bias_trains_it_as_its_shift():
    network = nn.Sequential(nn.Conv2d(2, 4, 3, groups=2, bias=True), nn.ReLU()).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with scale_and_shift(network):
        descend(network, torch.rand(3, 2, 5, 5))
    after = network.state_dict()
    assert sorted(after) == sorted(before) == ["0.bias", "0.weight"]
    assert not torch.equal(after["0.bias"], before["0.bias"])
    ratio = after["0.weight"] / before["0.weight"]
    assert torch.allclose(ratio, ratio[:, :, :1, :1].expand_as(ratio), rtol=1e-4)


def test_a_training_that_fails_leaves_a_plain_network():
    network = backbone(RESNET8)
    names = list(network.state_dict())
    with pytest.raises(RuntimeError, match="broken"), scale_and_shift(network):
        raise RuntimeError("broken")
    assert list(network.state_dict()) == names


def test_a_backbone_without_convolutions_is_left_alone():
    network = build(ModelConfig(backbone="identity", embedding=4))
    with scale_and_shift(network):
        assert torch.equal(network(torch.ones(2, 4)), torch.ones(2, 4))
