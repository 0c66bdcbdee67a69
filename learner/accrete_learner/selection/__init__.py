"""The choice of the examples of a class that are kept as exemplars.

A selection takes a class's features [n, d], how many to keep, and a source of randomness. It returns the chosen indices
[min(count, n)] int64 in rank order. The memory shrinks by dropping the last, so a shorter selection must be the
beginning of a longer one.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from accrete_learner.selection import herding, histogram, random

Selection = Callable[[Tensor, int, torch.Generator], Tensor]

SELECTIONS: dict[str, Selection] = {
    "herding": herding.select,
    "histogram": histogram.select,
    "random": random.select,
}


def by_name(name: str) -> Selection:
    """Return the selection called `name`.

    Raises:
        ValueError: when there is none.
    """
    if name not in SELECTIONS:
        raise ValueError(f"selection = {name!r}: must be one of {', '.join(sorted(SELECTIONS))}")
    return SELECTIONS[name]


def select(name: str, features: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return the indices that the selection called `name` chooses.

    Raises:
        ValueError: when there is no such selection.
    """
    return by_name(name)(features, count, generator)
