"""A choice in proportion to a histogram of the distances to the class's mean (EEIL, section 3.3).

Shapes: n examples of one class, d features.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

#: Bins of equal width between the nearest and the farthest example.
BINS = 10


def select(features: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return `count` examples, or all if there are fewer, so that each bin of distances keeps its share.

    At every rank the next one comes from the bin that is furthest below its share of those picked so far, so that the
    beginning of a long selection is in proportion too. Within a bin the choice is uniform.

    Args:
        features: [n, d], normalised here.
        count: how many, 0 or more.
        generator: decides within the bins.

    Returns:
        Indices [min(count, n)] int64 on the features' device.

    Raises:
        ValueError: when a feature is not finite.
    """
    if not torch.isfinite(features).all():
        raise ValueError("a histogram of distances needs finite features")
    shuffled = torch.randperm(len(features), generator=generator, device=generator.device).cpu()
    if not len(features):
        return shuffled.to(features.device)
    unit = F.normalize(features.double(), dim=1)
    distances = (unit - unit.mean(0)).norm(dim=1).cpu()[shuffled]
    low, span = distances.min(), (distances.max() - distances.min()).clamp(min=1e-12)
    bins = ((distances - low) / span * BINS).long().clamp(max=BINS - 1)
    # The k-th of a bin's m examples gets the position (k + 1/2) / m. Sorted by it, all bins advance alike.
    position = torch.empty(len(bins), dtype=torch.float64)
    for bin_ in range(BINS):
        own = (bins == bin_).nonzero().squeeze(1)
        position[own] = (torch.arange(len(own), dtype=torch.float64) + 0.5) / max(1, len(own))
    return shuffled[position.argsort(stable=True)][:count].to(features.device)
