"""What the fits share."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

ABSENT = -1e4
"""Score of a class without an exemplar, below all others, and finite as everything in a version's files is."""


def offsets(labels: Tensor, class_count: int) -> Tensor:
    """Return [C] float32, which is 0 for a class with exemplars and `ABSENT` for one without."""
    counts = torch.bincount(labels, minlength=class_count)
    return torch.where(counts > 0, 0.0, ABSENT).float()


def doubles(features: Tensor) -> NDArray[np.float64]:
    """Return features as the solvers want them, which work in float64 whatever they are given."""
    return features.cpu().double().numpy()


def random_state(generator: torch.Generator) -> int:
    """Draw a seed for scikit-learn from the generator."""
    return int(torch.randint(2**31 - 1, (1,), generator=generator, device=generator.device))


@contextmanager
def stopping_early() -> Iterator[None]:
    """Silence the warning about a fit that its bound on iterations ended, since the bound is there to do so."""
    # Imported here and in the fits alone, since most trainers never need scikit-learn and its memory.
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield
