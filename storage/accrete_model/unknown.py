"""The cosine below which an image is of no known class, with a bounded rate of false alarms.

Shapes: H hold-out examples.
"""

from __future__ import annotations

from dataclasses import dataclass

from accrete_model.vectors import Floats


@dataclass(frozen=True, kw_only=True, slots=True)
class Threshold:
    """The cosine to every class below which an image is unknown."""

    nearness: float
    rate: float
    """Largest share of images of known classes that are called unknown; 0 means that none ever is."""


NEVER = Threshold(nearness=float("-inf"), rate=0.0)


def threshold(nearness: Floats, rate: float) -> Threshold:
    """Return the highest threshold that calls at most a share `rate` of images like the hold-out's unknown.

    Another image of the same kind is below the k-th smallest of H with a probability of k / (H + 1), by split conformal
    prediction (Vovk et al., Algorithmic Learning in a Random World, 2005).

    Args:
        nearness: cosine of each hold-out example to the class that is nearest, ascending [H].
        rate: 0 to below 1. Fewer than 1 / rate - 1 examples prove nothing, and nothing is unknown then.
    """
    rank = int(rate * (len(nearness) + 1) + 1e-9)
    if not rank:
        return NEVER
    return Threshold(nearness=float(nearness[rank - 1]), rate=rank / (len(nearness) + 1))
