"""Images as the inbox keeps them, and as it shows them."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from accrete_server.image_files import picture_of
from accrete_server.images import ImageReader, image_of
from accrete_server.predict.pipeline import Content

KEPT_SIDE = 640
"""Pixels of the longer side of what is kept: more than any model takes, and enough for a person."""
KEPT_BYTES = 256 * 1024

_AS_SENT = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
"""What browsers show, by Pillow's names."""
_QUALITIES = (90, 75, 50, 25)
"""Of JPEG, tried in order until the file is small enough; noise of 640 x 640 is at 25."""
_SHOWN_QUALITY = 85

File = tuple[bytes, str]
"""An image's bytes and media type."""


def kept(content: Content, reader: ImageReader) -> File:
    """Return what is kept of an image: without what describes it, such as place and camera.

    A small file stays as it is but for that, and so does a small tensor, as PNG. What is larger is shrunk to 640 pixels
    and becomes a JPEG.

    Raises:
        BadImage: it is none, which a caller's image that was answered is not.
    """
    if isinstance(content, tuple):
        shape, data = content
        image = image_of(np.frombuffer(data, np.uint8).reshape(shape))
        if max(image.size) <= KEPT_SIDE:
            file = _encoded(image, "PNG")
            if len(file) <= KEPT_BYTES:
                return file, "image/png"
        return _shrunk(image)
    small = _as_sent(content)
    return small or _shrunk(reader.upright(content, KEPT_SIDE))


def shown(file: bytes, media_type: str, max_side: int) -> File:
    """Return an image that is kept with at most `max_side` pixels on its longer side; a small one stays as it is.

    Raises:
        OSError: it cannot be decoded.
    """
    opened = Image.open(io.BytesIO(file))
    if not max_side or max(opened.size) <= max_side:
        return file, media_type
    opened.draft("RGB", (max_side, max_side))
    image = _plain(opened)
    image.thumbnail((max_side, max_side))
    return _encoded(image, "JPEG", quality=_SHOWN_QUALITY), "image/jpeg"


def _as_sent(data: bytes) -> File | None:
    """Return the parts of a file that make its picture, if it is small, upright and of a kind that browsers show."""
    picture = picture_of(data)
    if picture is None or picture.format not in _AS_SENT or picture.orientation != 1 or len(picture.data) > KEPT_BYTES:
        return None
    if max(Image.open(io.BytesIO(picture.data), formats=(picture.format,)).size) > KEPT_SIDE:
        return None
    return picture.data, _AS_SENT[picture.format]


def _shrunk(image: Image.Image) -> File:
    image = _plain(image)
    image.thumbnail((KEPT_SIDE, KEPT_SIDE))
    for quality in _QUALITIES:
        file = _encoded(image, "JPEG", quality=quality)
        if len(file) <= KEPT_BYTES:
            break
    return file, "image/jpeg"


def _plain(image: Image.Image) -> Image.Image:
    return image if image.mode in ("RGB", "L") else image.convert("RGB")


def _encoded(image: Image.Image, kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    if kind == "JPEG":
        options["subsampling"] = 0
    image.save(buffer, kind, **options)
    return buffer.getvalue()
