"""A uniform choice: the baseline of every paper on exemplars, and a strong one."""

import torch
from torch import Tensor


def select(features: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` of the examples (all, if fewer), uniformly without replacement.

    Args:
        features: [n, d]; only n matters.
        count: how many, 0 or more.
        generator: decides.

    Returns:
        Indices [min(count, n)] int64 on the features' device.
    """
    order = torch.randperm(len(features), generator=generator, device=generator.device)
    return order[:count].to(features.device)
