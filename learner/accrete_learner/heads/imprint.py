"""Imprinting, by which a new class's row starts at the mean direction of the class's features.

Sources: Qi et al., Low-Shot Learning with Imprinted Weights (CVPR 2018); LUCIR (Hou et al., CVPR 2019), section 3.5.

Shapes: N examples, d feature length.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from accrete_learner.heads.base import Head


@torch.no_grad()
def imprint(head: Head, features: Tensor, labels: Tensor) -> None:
    """Set each new row to its class's mean feature direction, as long as the old rows are on average.

    Args:
        head: the head to write to; without old rows the length is 1.
        features: [N, d], from the network as it was before the step, without augmentation.
        labels: [N] class indices. Examples of old classes are not used. One example of a new class is enough, and a
            new class without one keeps its row.
    """
    old_count = len(head.old_rows)
    length = head.old_rows.norm(dim=1).mean() if old_count else head.new_rows.new_ones(())
    directions = F.normalize(features, dim=1)
    for row in range(len(head.new_rows)):
        own = directions[labels == old_count + row]
        if len(own):
            head.new_rows[row] = F.normalize(own.mean(dim=0), dim=0) * length
