"""Names of the backbones, found without importing torch, so that a wrong name is refused before any process starts."""

import functools
import importlib.util
import re
from pathlib import Path

OURS = ("resnet32", "resnet8", "identity")

#: How torchvision's sources register a model. Other decorators may stand between.
_REGISTERED = re.compile(r"^@register_model\(\)\n(?:@.*\n)*def (\w+)\(", re.MULTILINE)


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
