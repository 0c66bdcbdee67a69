"""Pictures of stored examples: as they are stored where that is an image file, else a PNG of the same pixels."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from accrete_server.images import image_of
from accrete_storage.errors import CorruptRecord
from accrete_storage.examples.encoded_image import EncodedImage
from accrete_storage.examples.example import Example

PNG, JPEG = "image/png", "image/jpeg"
_QUALITY = 90
"""Of a JPEG that was shrunk."""


def picture(example: Example, max_side: int) -> tuple[bytes, str]:
    """Return an example as an image file, with its media type; both empty for an embedding.

    Args:
        example: stored.
        max_side: pixels of the longest side, above which it is shrunk.

    Raises:
        CorruptRecord: the stored image cannot be decoded.
    """
    content = example.content
    if isinstance(content, EncodedImage):
        pixels = content.decode()  # also where the file goes out as it is: a damaged one must not
        return (content.data if max(pixels.shape[:2]) <= max_side else _file(pixels, max_side, "JPEG")), JPEG
    if content.ndim != 3:
        return b"", ""
    return _file(_pixels(content), max_side, "PNG"), PNG


def _pixels(tensor: NDArray[Any]) -> NDArray[np.uint8]:
    """Return uint8 [height, width, channels]; exemplars that a step made may be float16 in 0 to 255."""
    if tensor.dtype == np.uint8:
        return tensor
    if not np.isfinite(tensor).all():
        raise CorruptRecord("a stored image has values that are not finite")
    return np.rint(np.clip(tensor.astype(np.float32), 0, 255)).astype(np.uint8)


def _file(pixels: NDArray[np.uint8], max_side: int, form: str) -> bytes:
    image = image_of(pixels)
    if max(image.size) > max_side:
        image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, form, **({"quality": _QUALITY, "subsampling": 0} if form == "JPEG" else {}))
    return buffer.getvalue()
