"""Any of torchvision's image classifiers, by name, without its classifier."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn
from torchvision import models

#: Statistics of ImageNet's training pixels, in 0 to 1, per channel: what torchvision's weights were trained with.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

#: Families whose layers depend on the image's size, and what their constructors call it.
_SIZED: dict[str, Callable[[int], dict[str, Any]]] = {
    "vit_": lambda size: {"image_size": size},
    "maxvit_": lambda size: {"input_size": (size, size)},
}


def body(name: str, input_size: int) -> tuple[nn.Module, int, str]:
    """Build torchvision's model `name` with random weights.

    Args:
        name: of the model, as in `torchvision.models.list_models()`.
        input_size: height and width in pixels.

    Returns:
        The network without its classifier, its feature length, and the classifier's name in state dicts.

    Raises:
        ValueError: when torchvision has no image classifier of that name.
    """
    if name not in models.list_models(module=models):
        raise ValueError(f"backbone = {name!r}: torchvision has no image classifier of that name")
    network = models.get_model(name, weights=None, **_arguments(name, input_size))
    path, length = _classifier(network)
    parent, _, attribute = path.rpartition(".")
    setattr(network.get_submodule(parent), attribute, nn.Identity())
    return network, length, path


def pretrained(name: str, weights: str) -> dict[str, Any]:
    """Return the state dict of torchvision's `weights` for its model `name`.

    The first use downloads them into torch's cache.

    Raises:
        ValueError: when the model has no weights of that name.
    """
    available = models.get_model_weights(name)
    if weights not in available.__members__:
        names = ", ".join(available.__members__) or "none"
        raise ValueError(f"weights = {weights!r}: neither a file nor a name of {name}'s weights, which are: {names}")
    chosen = available[weights]
    # Those that the user's own cache has are not fetched a second time into that of the data directory.
    user = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "torch" / "hub" / "checkpoints"
    has = (user / chosen.url.rpartition("/")[2]).is_file()
    return dict(chosen.get_state_dict(progress=False, check_hash=True, **({"model_dir": str(user)} if has else {})))


def _arguments(name: str, input_size: int) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    for family, named in _SIZED.items():
        if name.startswith(family):
            arguments |= named(input_size)
    if name in ("googlenet", "inception_v3"):
        arguments["init_weights"] = True  # without it, torchvision warns that its default will change
    return arguments


def _classifier(network: nn.Module) -> tuple[str, int]:
    """Return the path of the last layer with ImageNet's 1000 outputs and its input length. It may be a convolution."""
    found = [
        (path, layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels)
        for path, layer in network.named_modules()
        if (isinstance(layer, nn.Linear) and layer.out_features == 1000)
        or (isinstance(layer, nn.Conv2d) and layer.out_channels == 1000)
    ]
    if not found:
        raise ValueError(f"{type(network).__name__} has no classifier to remove")
    return found[-1]
