"""iCaRL's loss (Rebuffi et al., CVPR 2017, algorithm 3), with the old network's outputs as targets for old classes.

Shapes: N examples, O classes known before the step, C classes in all.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from accrete_learner.losses.base import Batch
from accrete_learner.losses.binary_cross_entropy import one_hot, summed_binary_cross_entropy


@dataclass(frozen=True, kw_only=True)
class BinaryDistillation:
    """Binary cross-entropy whose targets for old classes are the old network's sigmoids.

    In a first step the targets are the labels. The old network's sigmoids also replace the label of an exemplar, as in
    the paper. A fresh example of an old class keeps a target of 1 for its label. The paper's stream has no such
    examples, and without the label they would teach nothing.
    """

    def applies(self, old_count: int, new_count: int) -> bool:
        return True

    def __call__(self, batch: Batch) -> Tensor:
        return summed_binary_cross_entropy(batch.scores, _targets(batch))


def _targets(batch: Batch) -> Tensor:
    labelled = one_hot(batch)
    if batch.teacher_scores is None:
        return labelled
    sigmoids = torch.sigmoid(batch.teacher_scores)
    old = torch.where(batch.fresh[:, None], torch.maximum(sigmoids, labelled[:, : batch.old_count]), sigmoids)
    return torch.cat((old, labelled[:, batch.old_count :]), dim=1)
