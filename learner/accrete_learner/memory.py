"""The exemplar memory's turn in a step: which examples stay, a balanced set of them, and the class means they give.

Shapes: M candidates (the exemplars kept from before, then the step's new examples), d feature length, C classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from accrete_learner import selection


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
        """[M] bool: came for this step."""
        return torch.arange(len(self.y), device=self.y.device) >= self.kept_count

    @property
    def fresh_classes(self) -> list[int]:
        """Classes with a new example, ascending; their exemplars are chosen anew."""
        return sorted({int(label) for label in self.y[self.kept_count :].tolist()})


def choose(
    candidates: Candidates, features: Tensor, *, name: str, quota: int, generator: torch.Generator
) -> dict[int, Tensor]:
    """For each class with new examples: its exemplars, as indices [<= quota] into the candidates, best first.

    `features` [M, d] are the candidates' under the network that will use the memory; only directions count (iCaRL,
    section 3.2 works on unit features).
    """
    directions = F.normalize(features, dim=1)
    chosen = {}
    for label in candidates.fresh_classes:
        own = (candidates.y == label).nonzero().squeeze(1)
        picked = selection.select(name, directions[own], min(quota, len(own)), generator)
        chosen[label] = own[picked.to(own.device)]
    return chosen


def complete(candidates: Candidates, chosen: Mapping[int, Tensor], *, quota: int, class_count: int) -> list[Tensor]:
    """The whole memory after the step: for each class, indices into the candidates; a class without any has none.

    A class that was not chosen anew keeps its first `quota` exemplars.
    """
    kept = candidates.y[: candidates.kept_count]
    rest = ((kept == label).nonzero().squeeze(1)[:quota] for label in range(class_count))
    return [chosen.get(label, old) for label, old in enumerate(rest)]


def with_fresh(memory: list[Tensor], candidates: Candidates) -> list[Tensor]:
    """The memory with the new examples of a class in place of exemplars that it does not have."""
    return [
        index if len(index) else ((candidates.y == label) & candidates.fresh).nonzero().squeeze(1)
        for label, index in enumerate(memory)
    ]


def balanced(memory: list[Tensor]) -> Tensor:
    """Indices into the candidates with equally many of every class that has any; small classes are repeated."""
    filled = [index for index in memory if len(index)]
    if not filled:
        return torch.empty(0, dtype=torch.int64)
    largest = max(len(index) for index in filled)
    return torch.cat([index[torch.arange(largest, device=index.device) % len(index)] for index in filled])


def means(counts: list[int], features: Tensor, mirrored: Tensor | None, fallback: Tensor) -> Tensor:
    """Unit class means [C, d] of unit features, those of the mirror images included where there are any (iCaRL's code).

    Args:
        counts: C, how many examples stand for each class.
        features: [sum of counts, d], of those examples, class by class.
        mirrored: the same of their mirror images; None where a mirror image means something else.
        fallback: [C, d], the mean of a class that nothing stands for.
    """
    directions = F.normalize(features, dim=1)
    if mirrored is not None:
        directions = directions + F.normalize(mirrored, dim=1)
    of_classes = zip(torch.split(directions, counts), fallback, strict=True)
    return F.normalize(torch.stack([own.mean(dim=0) if len(own) else other for own, other in of_classes]), dim=1)
