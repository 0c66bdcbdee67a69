"""FOSTER's feature enhancement: the new branch learns to tell all classes apart by itself (Wang et al., ECCV 2022)."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from accrete_learner.losses.base import Batch


@dataclass(frozen=True, kw_only=True)
class AuxiliaryCrossEntropy:
    """Mean cross-entropy of the auxiliary scores, over all classes. The class weights have no part in it."""

    weight: float = 1.0

    def applies(self, old_count: int, new_count: int) -> bool:
        return old_count > 0

    def __call__(self, batch: Batch) -> Tensor:
        if batch.auxiliary_scores is None:
            raise ValueError("auxiliary cross-entropy needs a method that boosts, whose networks have two branches")
        return self.weight * F.cross_entropy(batch.auxiliary_scores, batch.labels)
