"""When nothing is near enough: a threshold with a known rate of false alarms.

Shapes: H hold-out examples.
"""

from __future__ import annotations

from dataclasses import dataclass

from accrete_model.vectors import Floats


@dataclass(frozen=True, kw_only=True, slots=True)
class Threshold:
    """What is less near than this to every class is of none of them."""

    nearness: float
    rate: float
    """Share of images of known classes that are called unknown all the same, at most; 0: none ever is."""


NEVER = Threshold(nearness=float("-inf"), rate=0.0)


def threshold(nearness: Floats, rate: float) -> Threshold:
    """The highest threshold that calls at most a share `rate` of images like the hold-out's unknown.

    Args:
        nearness: of the hold-out's examples to the class that is nearest, ascending [H].
        rate: 0 to below 1. Fewer than 1 / rate - 1 examples prove nothing: then nothing is unknown.

    Another image of the same kind is below the k-th smallest of H with a probability of k / (H + 1) (split conformal
    prediction: Vovk et al., Algorithmic Learning in a Random World, 2005).
    """
    rank = int(rate * (len(nearness) + 1) + 1e-9)
    if not rank:
        return NEVER
    return Threshold(nearness=float(nearness[rank - 1]), rate=rank / (len(nearness) + 1))
