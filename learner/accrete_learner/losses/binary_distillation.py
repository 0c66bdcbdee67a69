"""iCaRL's loss (Rebuffi et al., CVPR 2017, algorithm 3): labels for new classes, the old network's answers for old.

Shapes: N examples, O classes known before the step, C classes in all.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from accrete_learner.losses.base import Batch
from accrete_learner.losses.binary_cross_entropy import one_hot, summed_binary_cross_entropy


@dataclass(frozen=True, kw_only=True)
class BinaryDistillation:
    """Binary cross-entropy whose targets for old classes are the old network's sigmoids; in a first step, plain.

    The old network's answer also replaces the label of an exemplar, as in the paper. An old class's *fresh* example
    keeps its label as a yes: the paper's stream has none, and without it such examples would teach nothing.
    """

    def applies(self, old_count: int, new_count: int) -> bool:
        return True

    def __call__(self, batch: Batch) -> Tensor:
        return summed_binary_cross_entropy(batch.scores, _targets(batch))


def _targets(batch: Batch) -> Tensor:
    labelled = one_hot(batch)
    if batch.teacher_scores is None:
        return labelled
    answered = torch.sigmoid(batch.teacher_scores)
    old = torch.where(batch.fresh[:, None], torch.maximum(answered, labelled[:, : batch.old_count]), answered)
    return torch.cat((old, labelled[:, batch.old_count :]), dim=1)
