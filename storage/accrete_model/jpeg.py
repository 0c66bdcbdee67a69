"""JPEG to pixels, in one place for what is asked, what is taught and what is stored.

simplejpeg, libjpeg-turbo without a stream and a copy between, decodes what it can. Pillow has the same library inside
and gives the same pixels to the bit at the same scale; it takes over where simplejpeg is not installed, and for files
that simplejpeg refuses: CMYK, odd sampling, damage. So what is said of a damaged file is said by one decoder alone.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL import __version__ as _pillow

try:
    import simplejpeg
except ImportError:  # there are no wheels for every system and Python, and nothing but time is lost
    simplejpeg = None
    LIBRARY = f"Pillow {_pillow}"
else:
    LIBRARY = f"simplejpeg {simplejpeg.__version__}"
"""What decodes JPEG files here, for people."""

PADDED = "RGBX"
"""Pillow's mode of colour images from `image`: it takes four bytes a pixel as they are, and would copy three."""
SMALLEST = 8
"""Pixels of a side below which nothing is decoded smaller than it is: the scales could not be told apart."""

_SCALES = (8, 4, 2)  # those that libjpeg-turbo is fast at: 5/8 to 7/8 take longer than the whole image
_COLOURS = {"Gray": "GRAY", "YCbCr": "RGB", "RGB": "RGB"}
"""What is decoded, by how it is stored. CMYK is left to Pillow, which knows Adobe's inverted files."""


def image(data: bytes, *, grey: bool, enough: int, check: Callable[[int, int], None]) -> Image.Image | None:
    """Decode a JPEG to an image in mode `PADDED` or "L"; None where it is Pillow's to decode, or to refuse.

    Args:
        data: the file.
        grey: whether brightness is enough; a grey file is grey in any case.
        enough: pixels of a side, `SMALLEST` or more, down to which it may be decoded at 1/2, 1/4 or 1/8 of its size.
        check: called with width and height before anything is decoded. What it raises is raised.
    """
    if simplejpeg is None:
        return None
    try:
        height, width, stored, _ = simplejpeg.decode_jpeg_header(data)
    except Exception:  # decoders raise whatever a damaged file leads them to; Pillow says what is wrong with it
        return None
    check(width, height)
    if stored not in _COLOURS:
        return None
    room = min(width, height) // enough  # as Pillow's `draft` chooses
    scale = next((scale for scale in _SCALES if scale <= room), 1)
    mode = "L" if grey or stored == "Gray" else PADDED
    try:
        pixels = simplejpeg.decode_jpeg(
            data, "GRAY" if mode == "L" else PADDED, min_height=-(-height // scale), min_width=-(-width // scale)
        )
    except Exception:  # likewise
        return None
    return Image.frombuffer(mode, (pixels.shape[1], pixels.shape[0]), pixels, "raw", mode, 0, 1)


def pixels(data: bytes) -> NDArray[Any]:
    """Return the pixels of a grey or colour JPEG, uint8 [height, width, 1 or 3], read-only.

    Raises:
        Exception: whatever a damaged file leads Pillow to.
    """
    if simplejpeg is not None:
        try:
            stored = simplejpeg.decode_jpeg_header(data)[2]
            if stored in _COLOURS:
                found: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, _COLOURS[stored])
                found.flags.writeable = False
                return found
        except Exception:  # likewise
            pass
    opened = np.asarray(Image.open(io.BytesIO(data), formats=("JPEG",)))
    return opened if opened.ndim == 3 else opened[:, :, None]
