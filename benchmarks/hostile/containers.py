"""Image files put together part by part, sound and odd at once: what cameras, telephones and editors write and decoders
trip over. Each has the pixels of the plain file that it was made from.
"""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable, Sequence
from functools import lru_cache

JPEG_EXIF = b"Exif\0\0"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MEBIBYTE = 1 << 20


def ifd(entries: Sequence[tuple[int, int, int, bytes]], order: str = "<", count: int | None = None) -> bytes:
    """Return an EXIF block of one directory; entries are tag, type, number of values and the value's four bytes."""
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}I", 8)
    body = struct.pack(f"{order}H", len(entries) if count is None else count)
    for tag, kind, values, four in entries:
        body += struct.pack(f"{order}HHI", tag, kind, values) + four
    return head + body + bytes(4)


def oriented(value: int, order: str = "<", kind: int = 3) -> bytes:
    """Return an EXIF block with an orientation (TIFF type 3: 16 bits, 4: 32 bits)."""
    four = struct.pack(f"{order}H", value & 0xFFFF) + bytes(2) if kind == 3 else struct.pack(f"{order}I", value)
    return ifd([(0x0112, kind, 1, four)], order)


ODD_EXIF: dict[str, bytes] = {
    "empty": b"",
    "two bytes": b"II",
    "no order": b"XX*\0" + bytes(20),
    "zeros": bytes(40),
    "all ones": b"\xff" * 40,
    "directory far behind the end": b"II*\0" + struct.pack("<I", 2**31),
    "directory within the header": b"II*\0" + struct.pack("<I", 4) + bytes(20),
    "more entries than there are": ifd([(0x010F, 2, 4, b"abc\0")], count=65_535),
    "half an entry": ifd([(0x010F, 2, 4, b"abc\0")])[:-9],
    "value far behind the end": ifd([(0x010F, 2, 400, struct.pack("<I", 2**31 - 1))]),
    "value of 4 GiB": ifd([(0x010F, 2, 2**32 - 1, struct.pack("<I", 8))]),
    "unknown type": ifd([(0x0112, 77, 1, b"\1\0\0\0")]),
    "orientation as text": ifd([(0x0112, 2, 2, b"6\0\0\0")]),
    "orientation 0": oriented(0),
    "orientation 9": oriented(9),
    "orientation 65535": oriented(65_535, ">"),
    "orientation of no values": ifd([(0x0112, 3, 0, bytes(4))]),
    "resolution over zero": ifd([(0x011A, 5, 1, struct.pack("<I", 26)), (0x0128, 3, 1, b"\2\0\0\0")]) + bytes(8),
    "resolution as a short": ifd([(0x011A, 3, 1, b"\1\0\0\0"), (0x0128, 3, 1, b"\3\0\0\0")]),
    "GPS that points at itself": ifd([(0x8825, 4, 1, struct.pack("<I", 8)), (0x8769, 4, 1, struct.pack("<I", 8))]),
    "GPS far behind the end": ifd([(0x8825, 4, 1, struct.pack("<I", 2**31))]),
    "a directory that follows itself": ifd([])[:-4] + struct.pack("<I", 8),
    "BigTIFF": b"II+\0\x08\0\0\0" + bytes(24),
}
"""EXIF from which no orientation can be read."""


def jpeg_with(data: bytes, segments: Sequence[tuple[int, bytes]], *, fill: int = 0, behind: bytes = b"") -> bytes:
    """Return a JPEG with segments (marker, content) behind its start, fill bytes before each, bytes behind its end."""
    odd = b"".join(
        b"\xff" * fill + bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2) + body for marker, body in segments
    )
    return data[:2] + odd + data[2:] + behind


def jpeg_segments(data: bytes) -> list[bytes]:
    """Return the segments of a plain JPEG up to its first scan, and the rest as the last."""
    parts, at = [data[:2]], 2
    while data[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4])
        parts.append(data[at:end])
        at = end
    return [*parts, data[at:]]


def png_chunk(kind: bytes, body: bytes, *, sound: bool = True) -> bytes:
    """Return a chunk; one that is not sound has a wrong checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body) ^ (not sound))


def png_with(data: bytes, chunks: Sequence[bytes], *, last: bool = False, behind: bytes = b"") -> bytes:
    """Return a PNG with chunks before its pixels, or behind them, and bytes behind its end."""
    at = data.rindex(b"IEND") - 4 if last else 33
    return data[:at] + b"".join(chunks) + data[at:] + behind


def _with_wrong_checksum(data: bytes) -> bytes:
    """Return a PNG of which no checksum of the pixels is right; zlib's own is, so that they are known to be whole."""
    found = bytearray(data)
    at = data.index(b"IDAT")
    while found[at : at + 4] == b"IDAT":
        end = at + 4 + int.from_bytes(found[at - 4 : at])
        found[end] ^= 0xFF
        at = end + 8
    return bytes(found)


def png_resplit(data: bytes, size: int) -> bytes:
    """Return a PNG whose pixels come in chunks of `size` bytes."""
    out, at = PNG_SIGNATURE, 8
    packed = b""
    rest: list[bytes] = []
    while at < len(data):
        length, kind = int.from_bytes(data[at : at + 4]), data[at + 4 : at + 8]
        chunk = data[at : at + 12 + length]
        at += len(chunk)
        if kind == b"IDAT":
            packed += chunk[8:-4]
        elif packed or kind == b"IEND":
            rest.append(chunk)
        else:
            out += chunk
    split = (packed[first : first + size] for first in range(0, len(packed), size))
    return out + b"".join(png_chunk(b"IDAT", part) for part in split) + b"".join(rest)


def webp_with(data: bytes, chunks: Sequence[tuple[bytes, bytes]], size: tuple[int, int], flags: int) -> bytes:
    """Return a WebP in the extended format with chunks behind its pixels; `flags` are those of its header."""
    head = bytes([flags, 0, 0, 0]) + (size[0] - 1).to_bytes(3, "little") + (size[1] - 1).to_bytes(3, "little")
    body = b"WEBP" + _riff(b"VP8X", head) + data[12:] + b"".join(_riff(kind, content) for kind, content in chunks)
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def _riff(kind: bytes, content: bytes) -> bytes:
    return kind + len(content).to_bytes(4, "little") + content + b"\0" * (len(content) % 2)


@lru_cache
def _video() -> bytes:
    return b"\0\0\0\x18ftypmp42" + random.Random(0).randbytes(300_000) + b"\xff\xda" * 500


@lru_cache
def _profile() -> bytes:
    return zlib.compress(random.Random(0).randbytes(_MEBIBYTE + 70_000), 0)


@lru_cache
def _zeros() -> bytes:
    return zlib.compress(bytes(20 * _MEBIBYTE))


def odd_jpegs(data: bytes) -> dict[str, bytes]:
    """Return the ways in which a plain JPEG can be odd."""
    scan = b"\xff\xda"
    segments = jpeg_segments(data)
    found = {f"EXIF: {name}": jpeg_with(data, [(0xE1, JPEG_EXIF + block)]) for name, block in ODD_EXIF.items()}
    return found | {
        "EXIF twice": jpeg_with(data, [(0xE1, JPEG_EXIF + b"II")] * 2),
        "EXIF of 64 KB": jpeg_with(data, [(0xE1, JPEG_EXIF + bytes(65_000))]),
        "XMP that is none": jpeg_with(data, [(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta \xff\xfe")]),
        "comment of markers": jpeg_with(data, [(0xFE, scan * 101)]),
        "comment of ends": jpeg_with(data, [(0xFE, b"\xff\xd9" * 20)]),
        "empty comment": jpeg_with(data, [(0xFE, b"")]),
        "thumbnails of many scans": jpeg_with(data, [(0xE1, b"thumb" + data + scan * 99)] * 2),
        "every application": jpeg_with(data, [(marker, bytes(range(256))) for marker in range(0xE1, 0xEE)]),
        "short empty JFIF": jpeg_with(data, [(0xE0, b"JFIF")]),
        "short Adobe": jpeg_with(data, [(0xEE, b"Adobe")]),
        "broken MPF": jpeg_with(data, [(0xE2, b"MPF\0II*\0" + b"\xff" * 30)]),
        "MPF of no images": jpeg_with(data, [(0xE2, b"MPF\0" + ifd([(0xB001, 4, 1, bytes(4))]))]),
        "ICC of one part of three": jpeg_with(data, [(0xE2, b"ICC_PROFILE\0\3\3" + bytes(100))]),
        "ICC without an order": jpeg_with(data, [(0xE2, b"ICC_PROFILE\0")]),
        "Photoshop cut short": jpeg_with(data, [(0xED, b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\xff\xff")]),
        "Photoshop resolution cut short": jpeg_with(data, [(0xED, b"Photoshop 3.0\x008BIM\x03\xed\0\0\0\0\0\2ab")]),
        "fill bytes": jpeg_with(data, [(0xFE, b"filled")], fill=7),
        "fill bytes before all": b"\xff".join([segments[0], *segments[1:]]),
        "bytes between segments": segments[0] + b"".join(part + b"\0\1" for part in segments[1:-1]) + segments[-1],
        "zeros behind": jpeg_with(data, [], behind=bytes(5_000)),
        "a video behind": jpeg_with(data, [], behind=_video()),
        "scans behind": jpeg_with(data, [], behind=scan * 500),
        "itself behind": jpeg_with(data, [], behind=data * 3),
        "a byte behind": jpeg_with(data, [], behind=b"\n"),
    }


def odd_pngs(data: bytes) -> dict[str, bytes]:
    """Return the ways in which a plain PNG can be odd."""
    chunk = png_chunk
    found = {f"EXIF: {name}": png_with(data, [chunk(b"eXIf", block)]) for name, block in ODD_EXIF.items()}
    return found | {
        "text of 2 MB": png_with(data, [chunk(b"tEXt", b"Comment\0" + b"x" * 2 * _MEBIBYTE)]),
        "texts of 80 MB unpacked": png_with(data, [chunk(b"zTXt", b"k\0\0" + _zeros())] * 4),
        "profile of 1 MB": png_with(data, [chunk(b"iCCP", b"big\0\0" + _profile())]),
        "profile that is none": png_with(data, [chunk(b"iCCP", b"none\0\0not packed")]),
        "profile of another packing": png_with(data, [chunk(b"iCCP", b"none\0\7abc")]),
        "text without an end": png_with(data, [chunk(b"tEXt", b"no end")]),
        "text of no packing": png_with(data, [chunk(b"zTXt", b"k\0\0damaged")]),
        "text of another packing": png_with(data, [chunk(b"zTXt", b"k\0\7damaged")]),
        "international text cut short": png_with(data, [chunk(b"iTXt", b"k\0\1")]),
        "international text not UTF-8": png_with(data, [chunk(b"iTXt", b"k\0\0\0en\0k\0\xff\xfe")]),
        "EXIF in digits that are none": png_with(data, [chunk(b"tEXt", b"Raw profile type exif\0\nexif\n 4\nxyz\n")]),
        "wrong checksum of a text": png_with(data, [chunk(b"tEXt", b"a\0b", sound=False)]),
        "wrong checksum of a time": png_with(data, [chunk(b"tIME", bytes(7), sound=False)]),
        "wrong checksum behind the pixels": png_with(data, [chunk(b"tEXt", b"a\0b", sound=False)], last=True),
        "wrong checksum of the pixels": _with_wrong_checksum(data),
        "short pHYs": png_with(data, [chunk(b"pHYs", b"\0\0")]),
        "empty pHYs": png_with(data, [chunk(b"pHYs", b"")]),
        "short gAMA": png_with(data, [chunk(b"gAMA", b"\1")]),
        "short cHRM": png_with(data, [chunk(b"cHRM", bytes(5))]),
        "empty sRGB": png_with(data, [chunk(b"sRGB", b"")]),
        "short tIME": png_with(data, [chunk(b"tIME", b"\7")]),
        "empty acTL": png_with(data, [chunk(b"acTL", b"")]),
        "acTL of no frames": png_with(data, [chunk(b"acTL", bytes(8))]),
        "short fcTL": png_with(data, [chunk(b"acTL", struct.pack(">II", 2, 0)), chunk(b"fcTL", bytes(4))]),
        "own chunks": png_with(data, [chunk(b"prVt", bytes(9)), chunk(b"abCd", b"")]),
        "a kind of digits": png_with(data, [chunk(b"a1b2", b"x")]),
        "a chunk behind that is cut": png_with(data, [], behind=b"\0\0\xff\xfftEXt"),
        "pixels in chunks of one byte": png_resplit(data, 1),
        "empty chunks of pixels": data[: data.index(b"IDAT") - 4]
        + chunk(b"IDAT", b"") * 3
        + data[data.index(b"IDAT") - 4 :],
        "no end": data[:-12],
        "a cut end": data[:-5],
        "zeros behind": png_with(data, [], behind=bytes(5_000)),
        "itself behind": png_with(data, [], behind=data),
        "scans behind": png_with(data, [], behind=b"\xff\xda" * 500),
    }


def odd_webps(data: bytes, size: tuple[int, int]) -> dict[str, bytes]:
    """Return the ways in which a plain WebP (VP8 or VP8L alone) can be odd."""
    found = {f"EXIF: {name}": webp_with(data, [(b"EXIF", block)], size, 0x08) for name, block in ODD_EXIF.items()}
    return found | {
        "EXIF as in a JPEG": webp_with(data, [(b"EXIF", JPEG_EXIF + b"II")], size, 0x08),
        "a flag without EXIF": webp_with(data, [], size, 0x08),
        "EXIF without a flag": webp_with(data, [(b"EXIF", b"II")], size, 0),
        "flags without anything": webp_with(data, [], size, 0x2C),
        "XMP that is none": webp_with(data, [(b"XMP ", b"\xff\xfe<")], size, 0x04),
        "profile behind": webp_with(data, [(b"ICCP", bytes(33))], size, 0x20),
        "own chunks": webp_with(data, [(b"abcd", b"x"), (b"EFGH", b"")], size, 0),
        "own chunk in the simple format": _regrown(data + _riff(b"abcd", bytes(20))),
        "zeros behind": data + bytes(5_000),
        "itself behind": data + data,
        "scans behind": data + b"\xff\xda" * 500,
    }  # fmt: skip


def odd_bmps(data: bytes) -> dict[str, bytes]:
    """Return the ways in which a plain BMP of 24 bits can be odd."""
    start = int.from_bytes(data[10:14], "little")
    gap = data[:10] + struct.pack("<I", start + 64) + data[14:start] + bytes(64) + data[start:]
    head = data[:14] + struct.pack("<I", 108) + data[18:54] + bytes(68)
    return {
        "no size": data[:2] + bytes(4) + data[6:],
        "a wrong size": data[:2] + b"\xff" * 4 + data[6:],
        "reserved bytes": data[:6] + b"\1\2\3\4" + data[10:],
        "a gap before the pixels": gap,
        "header of 108 bytes": head[:10] + struct.pack("<I", 122) + head[14:] + data[start:],
        "no resolution": data[:38] + bytes(8) + data[46:],
        "absurd resolution": data[:38] + b"\xff\xff\xff\x7f" * 2 + data[46:],
        "no size of the pixels": data[:34] + bytes(4) + data[38:],
        "zeros behind": data + bytes(5_000),
        "scans behind": data + b"\xff\xda" * 500,
    }


def _regrown(data: bytes) -> bytes:
    return data[:4] + (len(data) - 8).to_bytes(4, "little") + data[8:]


def odd(kind: str, data: bytes, size: tuple[int, int], chance: random.Random) -> bytes:
    """Return a plain file of a kind, odd in one way; other kinds as they are."""
    makers: dict[str, Callable[[], dict[str, bytes]]] = {
        "JPEG": lambda: odd_jpegs(data),
        "PNG": lambda: odd_pngs(data),
        "WEBP": lambda: odd_webps(data, size),
    }
    return chance.choice(list(makers[kind]().values())) if kind in makers else data
