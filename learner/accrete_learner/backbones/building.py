"""Build the backbone that the configuration names."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from accrete_learner.backbone_names import EFFICIENTNET, ONNX, OURS
from accrete_learner.backbones import cifar, efficientnet, weights
from accrete_learner.backbones.base import Backbone, IdentityBackbone
from accrete_learner.config import IDENTITY, ModelConfig
from accrete_model.card import FeatureChoice
from accrete_model.frozen import efficientnet_lite0 as lite0


def build(
    config: ModelConfig,
    *,
    generator: torch.Generator | None = None,
    last_relu: bool = False,
    features: FeatureChoice = "last",
) -> Backbone:
    """Build the backbone that `config` names, on the CPU, with random weights or those of `config.weights`.

    `efficientnet_lite0` has ImageNet's weights in place of random ones.

    Args:
        config: names the backbone and the form of its input.
        generator: source of the random weights. None for torch's global one, when the caller loads weights anyway.
        last_relu: whether the features of `resnet32` and `resnet8` pass a ReLU.
        features: which of their features; see `Backbone.choose_features`.

    Raises:
        ValueError: on an unknown name, or on weights of another network.
        OSError: when a weights file cannot be read.
    """
    if config.backbone == IDENTITY:
        return IdentityBackbone(config.embedding)
    with _seeded(generator):
        network, length, mean, std, classifier = _network(config, last_relu=last_relu)
    backbone = Backbone(network, length, config.input_shape, torch.tensor(mean), torch.tensor(std))
    backbone.choose_features(features)
    if config.weights:
        _load(backbone, config, classifier)
    return backbone


_Parts = tuple[nn.Module, int, tuple[float, ...], tuple[float, ...], str]


def _network(config: ModelConfig, *, last_relu: bool) -> _Parts:
    """Return the network, its feature length, mean and deviation per channel, and the removed classifier's name."""
    if config.backbone in ("resnet32", "resnet8"):
        mean, std = cifar.CIFAR_MEAN, cifar.CIFAR_STD
        if config.channels == 1:
            mean, std = (sum(mean) / 3,), (sum(std) / 3,)  # type: ignore[assignment]
        if config.backbone == "resnet32":
            return cifar.resnet32(config.channels, last_relu=last_relu), 64, mean, std, "fc"
        return cifar.resnet8(config.channels, config.input_size, last_relu=last_relu), 128, mean, std, "fc"
    if config.backbone.startswith(ONNX):
        raise ValueError(f"backbone = {config.backbone!r}: a network of an ONNX file is used as it is, and not trained")
    if config.backbone == EFFICIENTNET:
        return efficientnet.EfficientNetLite0(), lite0.FEATURE_LENGTH, efficientnet.MEAN, efficientnet.STD, "_fc"
    # Importing torchvision takes over a second, and only its own networks need it.
    from accrete_learner.backbones import torchvision_

    network, length, classifier = torchvision_.body(config.backbone, config.input_size)
    return network, length, torchvision_.IMAGENET_MEAN, torchvision_.IMAGENET_STD, classifier


def _load(backbone: Backbone, config: ModelConfig, classifier: str) -> None:
    state = _state(config)
    # A version's weights name the whole backbone, all others the network inside.
    if any(name.startswith("network.") for name in state):
        # How features of all blocks were whitened is not the network's: they are whitened anew.
        of_network = {name: value for name, value in state.items() if not name.startswith("network.features_")}
        weights.load(backbone, of_network, source=config.weights)
    else:
        network = backbone.network
        ours = network.constants() if isinstance(network, efficientnet.EfficientNetLite0) else {}
        weights.load(network, ours | state, source=config.weights, ignored=classifier)
        if isinstance(network, efficientnet.EfficientNetLite0):
            network.standardise()


def _state(config: ModelConfig) -> dict[str, Tensor]:
    path = Path(config.weights).expanduser()
    if path.suffix or path.exists() or config.backbone in OURS:
        return weights.read(path)
    from accrete_learner.backbones import torchvision_

    return torchvision_.pretrained(config.backbone, config.weights)


@contextmanager
def _seeded(generator: torch.Generator | None) -> Iterator[None]:
    """Seed torch's global generator, from which layers draw their first weights, and restore it afterwards."""
    if generator is None:
        yield
        return
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator, device=generator.device)))
        yield
