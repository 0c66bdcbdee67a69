"""How far a share that was counted can be from the true one."""

import math

_Z95 = 1.959963984540054
"""Standard deviations to either side of the mean that hold 95 % of a normal distribution."""


def wilson_interval(hits: int, total: int) -> tuple[float, float]:
    """Return the 95 % interval of the share that `hits` of `total` stand for; 0 to 1 where nothing was counted.

    Source: Wilson, Probable inference (JASA 1927).
    """
    if total == 0:
        return 0.0, 1.0
    share, square = hits / total, _Z95**2
    middle = (share + square / (2 * total)) / (1 + square / total)
    half = _Z95 / (1 + square / total) * math.sqrt(share * (1 - share) / total + square / (4 * total**2))
    return max(0.0, middle - half), min(1.0, middle + half)
