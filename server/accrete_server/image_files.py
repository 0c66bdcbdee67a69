"""The structure of image files: which parts of a file make its picture, found by walking its segments, chunks or boxes.

A decoder is given these parts alone. What is optional (EXIF, text, colour profiles, thumbnails) and what stands behind
the picture's end (the video of a motion photo, padding) can then neither keep a sound picture from being read nor be
mistaken for a part of it.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PART_LIMIT = 100_000
"""Segments or chunks of a file: files have tens or hundreds, and each takes about a microsecond to walk over."""

_TEXT_LIMIT = 1 << 20  # bytes of packed text that are unpacked, in search of an orientation
_UNPACKED = 1 << 18  # bytes of pixels that are unpacked at a time, to look at their checksum
_PIXEL_BYTES = 16  # of a PNG at most: eight, and a byte for each row of an interlaced one, however short
_ORIENTATION = 0x0112  # the EXIF tag
_SIZES = {1: 1, 3: 2, 4: 4, 6: 1, 8: 2, 9: 4}  # bytes of an integer, by its TIFF type
_XMP_ORIENTATION = re.compile(rb"tiff:Orientation(?:\s*=\s*[\"']|>)\s*([0-9])")

_JPEG = b"\xff\xd8\xff"
_PNG = b"\x89PNG\r\n\x1a\n"
_EXIF = b"Exif\0\0"
_XMP = b"http://ns.adobe.com/xap/1.0/\0"

# As libjpeg reads (jdmarker.c, next_marker): what is no marker is passed over, 0xFF may be repeated, 0xFF00 is data.
_MARKER = np.ones(256, np.bool_)
_MARKER[[0x00, 0xFF]] = False
_ENDS_SCAN = _MARKER.copy()
_ENDS_SCAN[[0x01, *range(0xD0, 0xD8)]] = False  # TEM and RST0 to RST7 stand within a scan
_ALONE = frozenset((0x01, *range(0xD0, 0xD8)))  # markers without a length
_EOI, _SOS, _APP0, _APP1, _ADOBE = 0xD9, 0xDA, 0xE0, 0xE1, 0xEE
_OF_PICTURE = frozenset((*range(0xC0, 0xD0), 0xD8, 0xDB, 0xDD)) - {0xC8}  # frames, tables, the restart interval


class BadStructure(Exception):
    """A file's structure is none that is taken; the message says why, as a reason without a subject."""


@dataclass(frozen=True, slots=True)
class Picture:
    """What of a file makes its picture."""

    format: str
    """The name that Pillow has for it."""
    data: bytes
    """The file without its optional parts."""
    orientation: int = 1
    """As EXIF numbers them, from 1 (upright) to 8; 1 where none can be read."""
    scans: int = 0
    """Of a JPEG."""
    doubtful: bool = False
    """Whether a checksum of a PNG's pixels is wrong: `whole_pixels` says whether they are whole all the same."""


def picture_of(data: bytes) -> Picture | None:
    """Return what of a file makes its picture; None for a file of another format.

    Raises:
        BadStructure: the file has too many parts.
    """
    if data.startswith(_JPEG):
        return _jpeg(data)
    if data.startswith(_PNG):
        return _png(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp(data)
    if data.startswith(b"BM"):
        return Picture("BMP", data)
    kind = brand(data)
    if kind is not None:
        return Picture(kind, without_exif_items(data))
    return None


def name_of(data: bytes) -> str:
    """Return the name of a format that is not read, such as "GIF"; "" for what is not known here."""
    names = {
        b"GIF8": "GIF", b"II*\0": "TIFF", b"MM\0*": "TIFF", b"%PDF": "PDF", b"8BPS": "Photoshop", b"\0\0\1\0": "icon",
        b"\xff\x0a": "JPEG XL", b"\0\0\0\x0cJXL ": "JPEG XL", b"\0\0\0\x0cjP  ": "JPEG 2000", b"<svg": "SVG",
        b"<?xml": "XML", b"PK\3\4": "zip", b"<!DO": "HTML", b"<htm": "HTML",
    }  # fmt: skip
    found = next((name for magic, name in names.items() if data.startswith(magic)), "")
    return found or ("video" if data[4:8] == b"ftyp" else "")


def brand(data: bytes) -> str | None:
    """Return "AVIF" or "HEIF" for a file of either (ISO/IEC 23008-12), by its brands; None for any other."""
    if data[4:8] != b"ftyp":
        return None
    box = data[8 : min(int.from_bytes(data[:4]), 256)]
    brands = {box[at : at + 4] for at in range(0, len(box), 4) if at != 4}
    if brands & {b"avif", b"avis"}:
        return "AVIF"
    return "HEIF" if brands & {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1"} else None


def exif_orientation(tiff: bytes) -> int:
    """Return the orientation of an EXIF block (TIFF 6.0, section 2; tag 274), or 1 where none can be read."""
    tiff = tiff.removeprefix(_EXIF)
    match tiff[:2]:
        case b"II":
            number = _little
        case b"MM":
            number = _big
        case _:
            return 1
    first = number(tiff[4:8])
    for at in range(first + 2, first + 2 + 12 * number(tiff[first : first + 2]), 12):
        entry = tiff[at : at + 12]
        if len(entry) < 12:
            break
        if number(entry[:2]) == _ORIENTATION:
            value = number(entry[8 : 8 + _SIZES.get(number(entry[2:4]), 0)])
            return value if 1 <= value <= 8 else 1
    return 1


def _little(data: bytes) -> int:
    return int.from_bytes(data, "little")


def _big(data: bytes) -> int:
    return int.from_bytes(data, "big")


class _Orientation:
    """The orientation that a file's metadata gives: EXIF's before XMP's, the first of each."""

    def __init__(self) -> None:
        self._exif = 1
        self._xmp = 1

    @property
    def value(self) -> int:
        return self._exif if self._exif != 1 else self._xmp

    def exif(self, block: bytes) -> None:
        if self._exif == 1:
            self._exif = exif_orientation(block)

    def xmp(self, text: bytes) -> None:
        if self._xmp == 1 and (found := _XMP_ORIENTATION.search(text)) and 1 <= int(found[1]) <= 8:
            self._xmp = int(found[1])


def _counted() -> Callable[[], None]:
    """Return what is to be called for each part. Raises BadStructure, when called too often."""
    left = iter(range(PART_LIMIT))

    def count() -> None:
        if next(left, None) is None:
            raise BadStructure(f"a file of more than {PART_LIMIT} parts")

    return count


def _jpeg(data: bytes) -> Picture:
    """Walk over the segments of a JPEG (ITU-T T.81, annex B) to the end of its first image."""
    parts, orientation, scans, at = [data[:2]], _Orientation(), 0, 2
    count = _counted()
    codes = np.frombuffer(data, np.uint8)
    found = np.flatnonzero(codes[:-1] == 0xFF)
    markers, ends = (found[table[codes[found + 1]]] for table in (_MARKER, _ENDS_SCAN))
    while (start := _first(markers, at)) is not None:
        count()
        marker, at = data[start + 1], start + 2
        if marker == _EOI:
            parts.append(b"\xff\xd9")
            break
        if marker in _ALONE:
            continue
        at += max(2, _big(data[at : at + 2]))
        if marker == _SOS:
            scans += 1
            at = _first(ends, at) or len(data)
            parts.append(data[start:at])
        elif marker in _OF_PICTURE:
            parts.append(data[start:at])
        else:
            parts.append(_application(marker, data[start + 4 : at], orientation))
    return Picture("JPEG", b"".join(parts), orientation.value, scans)


def _first(places: NDArray[np.intp], at: int) -> int | None:
    """Return the first of the places, which are sorted, that is not before `at`."""
    index = int(places.searchsorted(at))
    return int(places[index]) if index < len(places) else None


def _application(marker: int, body: bytes, orientation: _Orientation) -> bytes:
    """Return what of an application's segment says how colours are stored; read the orientation from the others."""
    if marker == _APP1 and body.startswith(_EXIF):
        orientation.exif(body)
    elif marker == _APP1 and body.startswith(_XMP):
        orientation.xmp(body)
    elif marker == _APP0 and body.startswith(b"JFIF\0"):
        return b"\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0"
    elif marker == _ADOBE and body.startswith(b"Adobe") and len(body) >= 12:
        return b"\xff\xee\0\x0e" + body[:12]
    return b""


def _png(data: bytes) -> Picture:
    """Walk over the chunks of a PNG (ISO/IEC 15948, section 5), and keep the critical ones."""
    parts, orientation, doubtful = [_PNG], _Orientation(), False
    indexed = data[25:26] == b"\3"  # elsewhere a palette is a suggestion
    for kind, start, end in _chunks(data, 8, len(data), _big, 4, 0):
        body = data[start + 8 : max(end - 4, start + 8)]
        if kind in (b"IHDR", b"IDAT") or (kind == b"PLTE" and indexed):
            parts.append(data[start:end])
            if kind == b"IDAT" and end <= len(data):
                doubtful |= zlib.crc32(data[start + 4 : end - 4]) != _big(data[end - 4 : end])
        elif kind == b"IEND":
            break
        elif kind == b"eXIf":
            orientation.exif(body)
        elif kind in (b"tEXt", b"zTXt", b"iTXt"):
            _text(kind, body, orientation)
    whole = b"".join(parts) + b"\0\0\0\0IEND\xae\x42\x60\x82"
    return Picture("PNG", whole, orientation.value, doubtful=doubtful)


def whole_pixels(picture: Picture, pixels: int) -> bool:
    """Return whether a PNG's packed pixels are what zlib's own checksum, behind all of them, says.

    A decoder that has all rows does not read as far.

    Args:
        picture: of a PNG.
        pixels: how many it has, which bounds what is unpacked.
    """
    unpacking, left = zlib.decompressobj(), _UNPACKED + _PIXEL_BYTES * pixels
    try:
        for kind, start, end in _chunks(picture.data, 8, len(picture.data), _big, 4, 0):
            packed = picture.data[start + 8 : end - 4] if kind == b"IDAT" else b""
            while packed and left > 0:
                left -= len(unpacking.decompress(packed, _UNPACKED))
                packed = unpacking.unconsumed_tail
    except zlib.error:
        return False
    return unpacking.eof


def _text(kind: bytes, body: bytes, orientation: _Orientation) -> None:
    """Read the orientation from text of a PNG: XMP, or EXIF in hexadecimal digits as ImageMagick writes it."""
    keyword, _, rest = body.partition(b"\0")
    if keyword not in (b"XML:com.adobe.xmp", b"Raw profile type exif", b"Raw profile type APP1"):
        return
    packed = kind == b"zTXt"
    if kind == b"zTXt":
        rest = rest[1:]
    elif kind == b"iTXt":
        packed, rest = rest[:1] == b"\1", rest[2:].split(b"\0", 2)[-1]
    if packed:
        try:
            rest = zlib.decompressobj().decompress(rest, _TEXT_LIMIT)
        except zlib.error:
            return
    if keyword.startswith(b"XML"):
        orientation.xmp(rest)
        return
    digits = re.sub(rb"\s", b"", b"".join(rest.split(b"\n")[3:]))
    try:
        orientation.exif(bytes.fromhex(digits.decode("ascii")))
    except ValueError:
        return


def _webp(data: bytes) -> Picture:
    """Walk over the chunks of a WebP (RFC 9649, section 2), and keep those of the first frame."""
    parts, orientation, frames = [b"WEBP"], _Orientation(), 0
    whole = min(len(data), 8 + _little(data[4:8]))
    for kind, start, end in _chunks(data, 12, whole, _little, 0, 1):
        chunk = data[start:end]
        if kind == b"VP8X" and len(parts) == 1 and len(chunk) > 8:
            parts.append(chunk[:8] + bytes([chunk[8] & 0x12]) + chunk[9:])  # alpha and animation; no profile, no EXIF
        elif kind in (b"ALPH", b"ANIM") and not frames:
            parts.append(chunk)
        elif kind in (b"VP8 ", b"VP8L", b"ANMF") and not frames:
            frames += 1
            parts.append(chunk + b"\0" * (end > len(data) and len(chunk) == end - start - 1))
        elif kind == b"EXIF":
            orientation.exif(chunk[8:])
        elif kind == b"XMP ":
            orientation.xmp(chunk[8:])
    body = b"".join(parts)
    return Picture("WEBP", b"RIFF" + len(body).to_bytes(4, "little") + body, orientation.value)


def _chunks(
    data: bytes, at: int, stop: int, number: Callable[[bytes], int], behind: int, padding: int
) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and end of each chunk; the last may end behind the data.

    Args:
        data: the file.
        at: where the first chunk begins.
        stop: where the last one ends.
        number: reads a length. It stands before the kind where `behind` is not 0 (PNG), behind it elsewhere (RIFF).
        behind: bytes of a checksum behind each chunk.
        padding: 1 where chunks have even lengths.
    """
    count = _counted()
    while at + 8 <= stop:
        count()
        first, second = data[at : at + 4], data[at + 4 : at + 8]
        kind, length = (second, number(first)) if behind else (first, number(second))
        end = at + 8 + length + (length & padding) + behind
        yield kind, at, end
        at = end


def without_exif_items(data: bytes) -> bytes:
    """Return a file of boxes (ISO/IEC 14496-12) whose EXIF items are of a kind that no reader knows.

    In these files the orientation is a property of the image and EXIF is a copy of it (ISO/IEC 23008-12, section A).
    """
    changed: bytearray | None = None
    for kind, start, end in _boxes(data, 0, len(data)):
        if kind != b"meta":
            continue
        for inner, inner_start, inner_end in _boxes(data, start + 4, end):
            if inner != b"iinf":
                continue
            entries = inner_start + (6 if data[inner_start : inner_start + 1] == b"\0" else 8)
            for entry, entry_start, _ in _boxes(data, entries, inner_end):
                version = data[entry_start : entry_start + 1]
                if entry == b"infe" and version in (b"\2", b"\3"):
                    at = entry_start + (8 if version == b"\2" else 10)
                    if data[at : at + 4] == b"Exif":
                        changed = changed or bytearray(data)
                        changed[at : at + 4] = b"skip"
    return data if changed is None else bytes(changed)


def _boxes(data: bytes, at: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start of the content and end of each box."""
    count = _counted()
    while at + 8 <= stop:
        count()
        length, kind, start = _big(data[at : at + 4]), data[at + 4 : at + 8], at + 8
        if length == 1:
            length, start = _big(data[at + 8 : at + 16]), at + 16
        end = stop if length == 0 else at + length
        if end < start or end > stop:
            return
        yield kind, start, end
        at = end
