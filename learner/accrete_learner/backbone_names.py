"""Names of the backbones, found without importing torch, so that a wrong name is refused before any process starts."""

import functools
import importlib.util
import re
from pathlib import Path

EFFICIENTNET = "efficientnet_lite0"
OURS = (EFFICIENTNET, "resnet32", "resnet8", "identity")

ONNX = "onnx:"
"""What the name of a backbone begins with that comes as a file of ONNX; the file's path follows."""

_CIFAR_SIZE = 32
_IMAGENET_SIZE = 224
_OWN_SIZES = {"resnet32": _CIFAR_SIZE, "resnet8": _CIFAR_SIZE, "inception_v3": 299}

#: How torchvision's sources register a model. Other decorators may stand between.
_REGISTERED = re.compile(r"^@register_model\(\)\n(?:@.*\n)*def (\w+)\(", re.MULTILINE)


def is_frozen(backbone: str) -> bool:
    """Return whether a backbone brings its weights, so that a method may learn on it without training it."""
    return backbone in (EFFICIENTNET, "identity") or backbone.startswith(ONNX)


def own_size(backbone: str) -> int:
    """Return the height and width in pixels of the images that a backbone was made for."""
    return _OWN_SIZES.get(backbone, _IMAGENET_SIZE)


@functools.cache
def torchvision_names() -> frozenset[str]:
    """Return the names of the installed torchvision's image classifiers, or none when it is not installed.

    They are read from its sources, and are those of `torchvision.models.list_models(module=torchvision.models)`. That
    would import torch, a second and 300 MB in processes that have no other use for it.
    """
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return frozenset()
    sources = (Path(spec.origin).parent / "models").glob("*.py")
    return frozenset(name for source in sources for name in _REGISTERED.findall(source.read_text(encoding="utf-8")))
