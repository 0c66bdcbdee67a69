"""The exemplar memory in a step, with the examples that stay, a balanced set of them, and their class means.

Shapes: M candidates (the exemplars kept from before, then the step's new examples), m exemplars of one class, d feature
length, C classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from accrete_learner import selection

#: The source of an exemplar that comes from no single example.
SYNTHESISED = -1


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidates:
    """All examples that a memory can hold after a step."""

    x: Tensor
    """[M, ...] in the model's input form."""
    y: Tensor
    """[M] int64 class indices."""
    kept_count: int
    """The first this many are exemplars from before, in rank order within each class."""

    @property
    def fresh(self) -> Tensor:
        """[M] bool, true for an example that came for this step."""
        return torch.arange(len(self.y), device=self.y.device) >= self.kept_count

    @property
    def fresh_classes(self) -> list[int]:
        """Classes with a new example, ascending. Their exemplars are chosen anew."""
        return sorted({int(label) for label in self.y[self.kept_count :].tolist()})


@dataclass(frozen=True, kw_only=True, slots=True)
class Exemplars:
    """The exemplars of one class in rank order."""

    x: Tensor
    """[m, ...] in the model's input form: uint8, or float16 in 0 to 255 where the synthesis was asked for it."""
    source: Tensor
    """[m] int64 index into the candidates of the example that each was made from, so that it can be deleted with it.
    SYNTHESISED where there is no single one."""
    shown: Tensor | None = None
    """[m, k] int64, for SYNTHESISED exemplars: indices into the candidates of all the examples that each was made from,
    so that it can be deleted with any of them. None when they were made from the network alone."""

    def __len__(self) -> int:
        return len(self.source)


def choose(
    candidates: Candidates, features: Tensor, *, name: str, per_class: int, generator: torch.Generator
) -> dict[int, Tensor]:
    """Choose the exemplars of each class that has new examples.

    Args:
        candidates: to choose among.
        features: [M, d] of the candidates under the network that will use the memory. Only their directions count, as
            iCaRL (section 3.2) works on features of length 1.
        name: of the selection.
        per_class: exemplars per class at most.
        generator: for selections that draw.

    Returns:
        By class, indices [<= per_class] into the candidates, best first.
    """
    directions = F.normalize(features, dim=1)
    chosen = {}
    for label in candidates.fresh_classes:
        own = (candidates.y == label).nonzero().squeeze(1)
        picked = selection.select(name, directions[own], min(per_class, len(own)), generator)
        chosen[label] = own[picked.to(own.device)]
    return chosen


def complete(candidates: Candidates, chosen: Mapping[int, Tensor], *, per_class: int, class_count: int) -> list[Tensor]:
    """Return for each class the indices into the candidates that the memory holds after the step.

    A class that was not chosen anew keeps its first `per_class` exemplars, or none if it has none.
    """
    kept = candidates.y[: candidates.kept_count]
    rest = ((kept == label).nonzero().squeeze(1)[:per_class] for label in range(class_count))
    return [chosen.get(label, old) for label, old in enumerate(rest)]


def taken(candidates: Candidates, index: Tensor) -> Exemplars:
    """Return the candidates at `index` as exemplars, unchanged."""
    return Exemplars(x=candidates.x[index], source=index)


def with_fresh(memory: Sequence[Exemplars], candidates: Candidates) -> list[Exemplars]:
    """Return the memory, where a class without exemplars is represented by its new examples."""
    fresh = candidates.fresh
    return [
        own if len(own) else taken(candidates, ((candidates.y == label) & fresh).nonzero().squeeze(1))
        for label, own in enumerate(memory)
    ]


def balanced(memory: Sequence[Exemplars]) -> tuple[Tensor, Tensor, Tensor]:
    """Return x, y and source of equally many exemplars of every class that has any. Small classes are repeated."""
    largest = max((len(own) for own in memory), default=0)
    rows = [torch.arange(largest, device=own.source.device) % len(own) for own in memory if len(own)]
    filled = [own for own in memory if len(own)]
    labels = torch.tensor([label for label, own in enumerate(memory) if len(own)], dtype=torch.int64)
    x = torch.cat([own.x[row] for own, row in zip(filled, rows, strict=True)] or [memory[0].x])
    source = torch.cat([own.source[row] for own, row in zip(filled, rows, strict=True)] or [memory[0].source])
    return x, labels.repeat_interleave(largest).to(source.device), source


def means(counts: list[int], features: Tensor, mirrored: Tensor | None, fallback: Tensor) -> Tensor:
    """Return the class means [C, d], of length 1, of features scaled to length 1.

    Features of the mirror images are included where they are given, as in iCaRL's code.

    Args:
        counts: C numbers of the examples that represent each class.
        features: [sum of counts, d] of those examples, class by class.
        mirrored: features of their mirror images. None where a mirror image means something else.
        fallback: [C, d] means of the classes that no example represents.
    """
    directions = F.normalize(features, dim=1)
    if mirrored is not None:
        directions = directions + F.normalize(mirrored, dim=1)
    of_classes = zip(torch.split(directions, counts), fallback, strict=True)
    return F.normalize(torch.stack([own.mean(dim=0) if len(own) else other for own, other in of_classes]), dim=1)
