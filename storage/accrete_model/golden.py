"""What an engine and a rule compute is compared with what was computed when the version or the backbone was made."""

from __future__ import annotations

import numpy as np

from accrete_model.errors import LoadError
from accrete_model.vectors import Floats

TOLERANCE = 1e-2
"""Largest difference from the golden outputs, of features relative to the largest one, of probabilities absolute.

Float32 on CPUs agrees to 1e-5. The rest is for a GPU that multiplies in TF32 (10 bits of mantissa), as PyTorch lets it.
A graph and a head that do not belong together are off by far more.
"""


def check_features(got: Floats, wanted: Floats) -> None:
    """Compare features [G, d].

    Raises:
        LoadError: (stage "golden") saying how they differ.
    """
    _compare("features", got, wanted, TOLERANCE * float(np.abs(wanted).max()))


def check_probabilities(got: Floats, wanted: Floats) -> None:
    """Compare probabilities [G, C].

    Raises:
        LoadError: (stage "golden") saying how they differ.
    """
    _compare("probabilities", got, wanted, TOLERANCE)


def _compare(what: str, got: Floats, wanted: Floats, tolerance: float) -> None:
    if got.shape != wanted.shape:
        raise LoadError("golden", f"{what} are {list(got.shape)}, the trainer's {list(wanted.shape)}")
    if not np.isfinite(got).all():
        raise LoadError("golden", f"{what} are not finite")
    difference = float(np.abs(got - wanted).max())
    if difference > tolerance:
        raise LoadError("golden", f"{what} differ from the trainer's by {difference:.3g}; {tolerance:.3g} is allowed")
