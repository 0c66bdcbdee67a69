"""Images of noise: what an image shows does not change what it costs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def noise(count: int, shape: tuple[int, ...], seed: int = 1993) -> NDArray[np.uint8]:
    """Return uint8 [count, *shape], the same for the same seed."""
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)
