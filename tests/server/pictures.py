"""Image files for tests, made with Pillow or byte by byte."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image


def picture(width: int = 12, height: int = 8, mode: str = "RGB", seed: int = 0) -> Image.Image:
    """A picture of random blocks; smooth enough to survive JPEG."""
    generator = np.random.default_rng(seed)
    bands = {"RGB": (3,), "RGBA": (4,), "L": ()}[mode]
    small = generator.integers(0, 256, (2, 2, *bands), dtype=np.uint8)
    return Image.fromarray(small).convert(mode).resize((width, height))


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The image as a file of a kind that Pillow knows."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


def bmp_header(width: int, height: int) -> bytes:
    """A BMP that claims a size and holds no pixels."""
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def webp_header(width: int, height: int) -> bytes:
    """A WebP (extended format) that claims a size and holds no frame."""
    body = b"\0\0\0\0" + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    chunk = b"VP8X" + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk
