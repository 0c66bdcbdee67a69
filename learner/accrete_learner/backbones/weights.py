"""Read a state dict from a file without running any of its content."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

#: Where training scripts put the state dict when their file holds more than it.
_NESTS = ("state_dict", "model")


def read(path: Path) -> dict[str, Tensor]:
    """Return the state dict in `path`, which is a .safetensors file or one that `torch.save` wrote.

    Raises:
        ValueError: when the file holds no state dict.
        OSError: when it cannot be read.
    """
    try:
        content: Any = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except OSError:
        raise
    except Exception as error:  # a damaged file raises nearly anything
        # torch's own message advises to run what the file holds.
        reason = str(error) if path.suffix == ".safetensors" else type(error).__name__
        raise ValueError(f"weights = {str(path)!r}: holds no state dict of tensors alone ({reason})") from error
    for nest in _NESTS:
        if isinstance(content, Mapping) and isinstance(content.get(nest), Mapping):
            content = content[nest]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"weights = {str(path)!r}: holds no state dict")
    return dict(content)


def load(module: nn.Module, state: Mapping[str, Tensor], *, source: str, ignored: str = "") -> None:
    """Load `state`, which must have exactly the parameters and buffers of `module` and may have those of `ignored`.

    Args:
        module: to change in place.
        state: by the names of `module.state_dict()`.
        source: named in errors.
        ignored: path of a removed submodule whose entries are dropped.

    Raises:
        ValueError: naming the first entry that is missing, unknown or of another shape.
    """
    own = module.state_dict()
    given = {name: value for name, value in state.items() if not (ignored and name.startswith(f"{ignored}."))}
    # BatchNorm's batch counter is used by none of our networks, and older files lack it.
    missing = [name for name in own if name not in given and not name.endswith("num_batches_tracked")]
    unknown = [name for name in given if name not in own]
    if missing or unknown:
        fault = f"lacks {missing[0]!r}" if missing else f"has {unknown[0]!r}, which the network does not"
        raise ValueError(f"weights = {source!r}: not of this network: {fault}")
    for name, value in given.items():
        if value.shape != own[name].shape:
            shapes = f"{list(value.shape)} where the network has {list(own[name].shape)}"
            raise ValueError(f"weights = {source!r}: not of this network: {name!r} is {shapes}")
    module.load_state_dict(given, strict=False)
