"""What a synthesis is: it turns the examples that a selection picked into the images that the memory holds.

Shapes: M candidates, C classes, O of them known before the step, H x W pixels.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from accrete_learner.augmentation.augment import Augmentation
from accrete_learner.memory.exemplars import SYNTHESISED, Candidates, Exemplars
from accrete_learner.progress import Report
from accrete_learner.training.network import Network

__all__ = ["SYNTHESISED", "Exemplars", "Picked", "Report", "Synthesis"]


@dataclass(frozen=True, kw_only=True)
class Picked:
    """What a synthesis starts from; all tensors on the generator's device."""

    network: Network
    """As training left it, in evaluation mode; a synthesis gives it back so, its weights untouched."""
    teacher: Network | None
    """The network as it was before the step; None in a first step."""
    candidates: Candidates
    """The exemplars from before the step, then its new examples, in the model's input form."""
    memory: tuple[Tensor, ...]
    """C times indices into the candidates, in rank order: the whole memory as the selection would have it."""
    fresh_classes: tuple[int, ...]
    """Ascending; those whose exemplars were picked anew in this step. The others' are older exemplars."""
    augmentation: Augmentation
    generator: torch.Generator
    report: Report


class Synthesis(Protocol):
    """One way to make exemplars. Never more of a class than were picked."""

    def __call__(self, picked: Picked) -> dict[int, Exemplars]:
        """The classes whose exemplars are not just what was picked, with at most as many as were picked.

        Raises:
            ValueError: for inputs that are not images, when it needs images.
        """
