"""A small balanced set that training leaves out, for what is fitted after it (BiC, section 4.1)."""

import torch
from torch import Tensor

from accrete_learner.memory.exemplars import Candidates


def split(candidates: Candidates, share: float, old_count: int, generator: torch.Generator) -> Tensor | None:
    """Draw equally many candidates of each class that can spare one.

    That many is `share` of the exemplars of the old class that has the fewest, and at least one. A class never gives
    its last example.

    Returns:
        Indices into the candidates. None when `share` is 0, or when no old or no new class can spare an example, as
        nothing could be fitted then.
    """
    if not share:
        return None
    y = candidates.y
    counts = torch.bincount(y).tolist()
    spare = [label for label, count in enumerate(counts) if count >= 2]
    of_old = [counts[label] for label in spare if label < old_count]
    if not of_old or len(of_old) == len(spare):
        return None
    each = max(1, round(share * min(of_old)))
    order = torch.randperm(len(y), generator=generator, device=generator.device).to(y.device)
    own = (order[(y[order] == label)] for label in spare)
    return torch.cat([index[: min(each, len(index) - 1)] for index in own])
