"""Image files of every kind and the ways in which they arrive broken."""

from __future__ import annotations

import io
import random
import struct
import time
import zlib

import numpy as np
from PIL import Image, PngImagePlugin

from benchmarks.hostile import containers

SAVED = (
    ("PNG", "RGB"), ("PNG", "L"), ("PNG", "LA"), ("PNG", "RGBA"), ("PNG", "P"), ("PNG", "1"), ("PNG", "I;16"),
    ("JPEG", "RGB"), ("JPEG", "L"), ("JPEG", "CMYK"), ("WEBP", "RGB"), ("WEBP", "RGBA"), ("BMP", "RGB"), ("BMP", "1"),
    ("GIF", "P"), ("TIFF", "RGB"), ("TIFF", "CMYK"), ("TIFF", "F"), ("PPM", "RGB"), ("ICO", "RGBA"), ("TGA", "RGB"),
    ("PCX", "L"), ("SGI", "RGB"), ("JPEG2000", "RGB"), ("PDF", "RGB"), ("EPS", "RGB"), ("DDS", "RGB"), ("AVIF", "RGB"),
)  # fmt: skip
SOUND = (
    ("JPEG", "RGB"), ("JPEG", "L"), ("JPEG", "CMYK"), ("PNG", "RGB"), ("PNG", "LA"), ("PNG", "P"), ("PNG", "1"),
    ("WEBP", "RGB"),
)  # fmt: skip
_EXIF_ORIENTATION = 0x0112
_LONG_AGO = time.gmtime(0)


def picture(chance: random.Random) -> bytes:
    """Return a whole file of some format and mode, sane in itself, if perhaps not one that is taken."""
    kind, mode = chance.choice(SAVED)
    return saved(kind, mode, chance)


def saved(kind: str, mode: str, chance: random.Random) -> bytes:
    """Return a small random image as a file, animated, rotated by EXIF or progressive where the format can be."""
    size = chance.choice(((1, 1), (8, 8), (9, 31), (64, 5)))
    image = _random(size, mode, chance)
    options: dict[str, object] = {}
    if kind in ("JPEG", "WEBP", "PNG") and chance.random() < 0.3:
        exif = Image.Exif()
        exif[_EXIF_ORIENTATION] = chance.choice((0, 1, 3, 6, 8, 9, 65535))
        options["exif"] = exif
    if kind in ("GIF", "WEBP", "TIFF", "PNG") and chance.random() < 0.3:
        options |= {"save_all": True, "append_images": [_random(size, mode, chance) for _ in range(3)]}
    if kind == "JPEG" and chance.random() < 0.3:
        options["progressive"] = True
    if kind == "PDF":
        options |= {"creationDate": _LONG_AGO, "modDate": _LONG_AGO}  # else the file's bytes tell when it was made
    file = io.BytesIO()
    try:
        image.save(file, kind, **options)
    except (OSError, KeyError, ValueError):  # a format that this build of Pillow does not write
        return _random(size, "L", chance).tobytes()
    return file.getvalue()


def sound(chance: random.Random) -> bytes:
    """A file that is odd in one way, and whose pixels are whole."""
    kind, mode = chance.choice(SOUND)
    size = chance.choice(((1, 1), (8, 8), (9, 31), (64, 5)))
    options: dict[str, object] = {"progressive": True} if kind == "JPEG" and chance.random() < 0.5 else {}
    file = io.BytesIO()
    _random(size, mode, chance).save(file, kind, **options)
    return containers.odd(kind, file.getvalue(), size, chance)


def alike(chance: random.Random) -> tuple[bytes, bytes]:
    """Return two files that differ in nothing but what a model of 8 bits without alpha is not shown."""
    values = np.random.default_rng(chance.getrandbits(32)).integers(0, 255, (9, 9, 4), dtype=np.uint8)
    other = values.copy()
    if chance.random() < 0.5:
        other[..., 3] += 1
        images = Image.fromarray(values), Image.fromarray(other)
    else:
        wide = values[..., 0].astype(np.uint16) << 8
        images = Image.fromarray(wide), Image.fromarray(wide + 1)
    files = io.BytesIO(), io.BytesIO()
    for image, file in zip(images, files, strict=True):
        image.save(file, "PNG")
    return files[0].getvalue(), files[1].getvalue()


def broken(data: bytes, chance: random.Random) -> bytes:
    """Return a file cut, changed, doubled or grown."""
    if not data:
        return data
    match chance.randrange(6):
        case 0:
            return data[: chance.randrange(len(data))]
        case 1 | 2:
            changed = bytearray(data)
            for _ in range(chance.choice((1, 1, 3, 20))):
                changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
            return bytes(changed)
        case 3:
            at = chance.randrange(len(data))
            return data[:at] + chance.randbytes(chance.randrange(1, 64)) + data[at:]
        case 4:
            return data + data
        case _:
            at = chance.randrange(len(data))
            return data[:at] + b"\xff" * chance.randrange(1, 32) + data[at + 8 :]


def bomb(chance: random.Random) -> bytes:
    """Little to send and much to decode, or a header that says so."""
    match chance.randrange(7):
        case 0:
            return png(65_535, 65_535, b"")
        case 1:
            return png(*chance.choice(((2**31 - 1, 1), (1, 2**31 - 1), (0, 5), (100_000, 100_000))), b"\0" * 100)
        case 2:
            return png(20_000, 1_300, zlib.compress(b"\0" * 26_000_000 * 3, 1)[:200_000])
        case 3:
            return _png_with(b"zTXt", b"k\0\0" + zlib.compress(b"\0" * 20_000_000, 9))
        case 4:
            return _png_with(b"iCCP", b"k\0\0" + zlib.compress(b"\0" * 20_000_000, 9))
        case 5:
            return b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<II", 10, 0) + b"\xff" * 6
        case _:
            return many_scans(chance.choice((101, 5_000)))


def png(width: int, height: int, packed: bytes) -> bytes:
    """Return a PNG whose header says that it is so large."""
    header = struct.pack(">IIBBBBB", width & 0xFFFFFFFF, height & 0xFFFFFFFF, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", packed) + _chunk(b"IEND", b"")


def many_scans(count: int) -> bytes:
    """Return a progressive JPEG whose last scan comes again and again: each makes a decoder go over all pixels."""
    file = io.BytesIO()
    Image.new("RGB", (2_000, 2_000)).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * count + b"\xff\xd9"


def _png_with(name: bytes, content: bytes) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG", pnginfo=PngImagePlugin.PngInfo())
    data = file.getvalue()
    at = data.index(b"IDAT") - 4
    return data[:at] + _chunk(name, content) + data[at:]


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _random(size: tuple[int, int], mode: str, chance: random.Random) -> Image.Image:
    generator = np.random.default_rng(chance.getrandbits(32))
    width, height = size
    if mode == "I;16":
        return Image.fromarray(generator.integers(0, 65_536, (height, width), dtype=np.uint16))
    return Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8)).convert(mode)
