"""Herding, which picks exemplars whose mean is closest to the class's mean at every number of them.

Sources: Welling, Herding Dynamical Weights to Learn (ICML 2009); Rebuffi et al., iCaRL (CVPR 2017), algorithm 4.
Shapes: n examples of one class, d features.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def select(features: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return `count` examples, or all if there are fewer, in the order in which iCaRL's algorithm 4 takes them.

    Its k-th pick is argmin |mu - (x + S) / k|, with S the sum of those picked before. For unit-norm x this is the
    argmax of (k mu - S) . x, which takes one product with all x per pick. It is computed in float64, because near-equal
    examples are common and their order should not depend on rounding.

    Args:
        features: [n, d], normalised here.
        count: how many, 0 or more.
        generator: not used; herding draws nothing.

    Returns:
        Indices [min(count, n)] int64 on the features' device.

    Raises:
        ValueError: when a feature is not finite.
    """
    if not torch.isfinite(features).all():
        raise ValueError("herding needs finite features")
    unit = F.normalize(features.double(), dim=1)
    towards_mean = unit @ unit.mean(0) if len(unit) else unit.new_zeros(0)
    wanted = towards_mean.clone()
    taken = torch.zeros_like(wanted, dtype=torch.bool)
    picks = torch.empty(min(count, len(unit)), dtype=torch.int64, device=features.device)
    for rank in range(len(picks)):
        # No value leaves the device in this loop, because reading one would stall a GPU at every pick.
        pick = wanted.masked_fill(taken, -torch.inf).argmax(0, keepdim=True)
        picks[rank] = pick[0]
        taken[pick] = True
        wanted += towards_mean - (unit @ unit[pick].T)[:, 0]
    return picks
