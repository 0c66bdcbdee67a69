"""Images as they are stored when they are large: JPEG, a seventh of the bytes, decoded when somebody looks at them.

JPEG with as many colour samples as pixels (4:4:4): half a millisecond to encode and as much to decode at 224 x 224,
where WebP takes five times that, halves the colour's resolution, and saves a third of the bytes.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from accrete_model import jpeg
from accrete_storage.errors import CorruptRecord

SMALLEST_SIDE = 64
"""Pixels. Smaller images stay as they are: the papers' 32 x 32 are learned to the bit, and take 3 KB."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedImage:
    """An image as a JPEG file."""

    data: bytes
    shape: tuple[int, int, int]
    """(height, width, channels), the channels 1 or 3."""

    @classmethod
    def of(cls, pixels: NDArray[Any], quality: int) -> Self | None:
        """Encode an image; None for what stays as it is: a small image, or a tensor that is none.

        Args:
            pixels: uint8 [height, width, 1 or 3], or any other tensor.
            quality: of JPEG, 1 to 100; 0: nothing is encoded.
        """
        if not quality or pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3):
            return None
        height, width, channels = pixels.shape
        if min(height, width) < SMALLEST_SIDE:
            return None
        buffer = io.BytesIO()
        image = Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)
        image.save(buffer, "JPEG", quality=quality, subsampling=0)
        return cls(data=buffer.getvalue(), shape=(height, width, channels))

    def decode(self) -> NDArray[np.uint8]:
        """Return the pixels, uint8 [height, width, channels], read-only.

        Raises:
            CorruptRecord: when the bytes are no such image.
        """
        try:
            return jpeg.pixels(self.data).reshape(self.shape)
        except Exception as error:  # decoders raise whatever a damaged file leads them to
            raise CorruptRecord(f"a stored image of {len(self.data)} bytes cannot be decoded: {error}") from error
