"""What the rules share when they are fitted."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

#: Score of a class without an exemplar: below all others, and finite, as everything in an artifact is.
ABSENT = -1e4


def offsets(labels: Tensor, class_count: int) -> Tensor:
    """[C] float32: 0 for a class with exemplars, `ABSENT` for one without."""
    counts = torch.bincount(labels, minlength=class_count)
    return torch.where(counts > 0, 0.0, ABSENT).float()


def doubles(features: Tensor) -> NDArray[np.float64]:
    """Features as the solvers want them: they work in float64 whatever they are given."""
    return features.cpu().double().numpy()


def random_state(generator: torch.Generator) -> int:
    """A seed for scikit-learn, drawn from the generator."""
    return int(torch.randint(2**31 - 1, (1,), generator=generator, device=generator.device))


@contextmanager
def stopping_early() -> Iterator[None]:
    """Without the warning about a fit that its bound on iterations ended: the bound is there to do so."""
    # Here, as scikit-learn is here and in the fits alone: most trainers never need it and its memory.
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield
