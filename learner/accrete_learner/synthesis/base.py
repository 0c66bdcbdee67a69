"""What a synthesis is: it turns the examples that a selection picked into the images that the memory holds.

Shapes: M candidates, C classes, O of them known before the step, H x W pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from accrete_learner.augment import Augmentation
from accrete_learner.memory import Candidates
from accrete_learner.network import Network

#: Where an exemplar that comes from no single example says that it came from.
SYNTHESISED = -1

Report = Callable[[int, int, float], None]
"""Called now and then with how much is done, of how much, and the current loss."""


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

    @property
    def class_count(self) -> int:
        """C."""
        return len(self.memory)


@dataclass(frozen=True, kw_only=True, slots=True)
class Exemplars:
    """A class's exemplars in rank order."""

    x: Tensor
    """[m, ...] in the model's input form: uint8, or float16 in 0 to 255 where the synthesis was asked for it."""
    source: Tensor
    """[m] int64 index into the candidates of the example that each was made from, so that it can be deleted with it; or
    SYNTHESISED."""


class Synthesis(Protocol):
    """One way to make exemplars. Never more of a class than were picked."""

    def __call__(self, picked: Picked) -> dict[int, Exemplars]:
        """The classes whose exemplars are not just what was picked, with at most as many as were picked.

        Raises:
            ValueError: for inputs that are not images, when it needs images.
        """
