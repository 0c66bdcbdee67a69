"""Stored JPEG files to pixels, in one place for what is learned from them and what is shown of them."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def pixels(data: bytes) -> NDArray[Any]:
    """Return the pixels of a grey or colour JPEG, uint8 [height, width] or [height, width, 3], read-only.

    Raises:
        Exception: whatever a damaged file leads the decoder to.
    """
    return np.asarray(Image.open(io.BytesIO(data), formats=("JPEG",)))
