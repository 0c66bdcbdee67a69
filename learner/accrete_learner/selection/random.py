"""A uniform choice, the baseline of every paper on exemplars."""

import torch
from torch import Tensor


def select(features: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return `count` examples, or all if there are fewer, drawn uniformly without replacement.

    Args:
        features: [n, d]; only n matters.
        count: how many, 0 or more.
        generator: decides.

    Returns:
        Indices [min(count, n)] int64 on the features' device.
    """
    order = torch.randperm(len(features), generator=generator, device=generator.device)
    return order[:count].to(features.device)
