"""The interface of a synthesis, which makes the memory's images from the examples that a selection picked.

Shapes: M candidates, C classes, O of them known before the step, H x W pixels.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from accrete_learner.augmentation.augment import Augmentation
from accrete_learner.memory.exemplars import SYNTHESISED, Candidates, Exemplars
from accrete_learner.progress import Report
from accrete_learner.ranks import ALONE, Group
from accrete_learner.training.network import Network

__all__ = ["SYNTHESISED", "Exemplars", "Picked", "Report", "Synthesis"]


@dataclass(frozen=True, kw_only=True)
class Picked:
    """What a synthesis starts from. All tensors are on the generator's device."""

    network: Network
    """As training left it, in evaluation mode. A synthesis must not change its mode or weights."""
    teacher: Network | None
    """The network as it was before the step. None in a first step."""
    candidates: Candidates
    """The exemplars from before the step, then its new examples, in the model's input form."""
    memory: tuple[Tensor, ...]
    """C times indices into the candidates, in rank order. This is the whole memory as the selection picked it."""
    fresh_classes: tuple[int, ...]
    """The classes whose exemplars were picked anew in this step, ascending. The others have older exemplars."""
    augmentation: Augmentation
    generator: torch.Generator
    report: Report
    group: Group = ALONE
    """The ranks that work on the step."""


class Synthesis(Protocol):
    """One way to make exemplars, never more of a class than were picked."""

    def __call__(self, picked: Picked) -> dict[int, Exemplars]:
        """Return the exemplars of the classes for which they are other than the picked examples.

        Raises:
            ValueError: for inputs that are not images, when it needs images.
        """
