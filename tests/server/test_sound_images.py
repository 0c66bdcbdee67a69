"""Sound but odd images, made by code: each is taken, with the right pixels."""

from __future__ import annotations

import io
import random
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from accrete_model.input_spec import InputSpec
from accrete_server.images import HEIF, BadImage, ImageReader
from benchmarks.hostile import containers
from tests.server.pictures import encode, picture

SIZE = (20, 14)
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip


def _xmp(value: int) -> bytes:
    return b'<x:xmpmeta><rdf:Description tiff:Orientation="%d"/></x:xmpmeta>' % value


def _sound() -> dict[str, tuple[bytes, bytes, int]]:
    """Return, by name, an odd file, the plain file with the same pixels, and the orientation that it says."""
    image = picture(*SIZE, seed=4)
    grey, cmyk = image.convert("L"), image.convert("CMYK")
    jpeg, png, bmp = encode(image, "JPEG", quality=90), encode(image, "PNG"), encode(image, "BMP")
    found: dict[str, tuple[bytes, bytes, int]] = {}

    def add(kind: str, plain: bytes, odd: dict[str, bytes]) -> None:
        found.update({f"{kind}: {name}": (data, plain, 1) for name, data in odd.items()})

    add("JPEG", jpeg, containers.odd_jpegs(jpeg))
    variants: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        "progressive": (image, {"progressive": True}), "grey": (grey, {}), "CMYK": (cmyk, {}),
        "grey progressive": (grey, {"progressive": True}), "4:4:4": (image, {"subsampling": 0}),
        "restart markers": (image, {"restart_marker_blocks": 1}),
    }  # fmt: skip
    for name, (what, options) in variants.items():
        plain = encode(what, "JPEG", **options)
        for oddity in ("a video behind", "comment of markers", "fill bytes", "EXIF: two bytes", "every application"):
            add(f"JPEG, {name}", plain, {oddity: containers.odd_jpegs(plain)[oddity]})
    for mode in ("RGB", "L", "P", "1", "RGBA", "LA"):
        plain = encode(image.convert(mode), "PNG")
        add(f"PNG, {mode}", plain, containers.odd_pngs(plain))
    palette = containers.png_chunk(b"PLTE", bytes(range(6)))
    add("PNG", png, {"suggested palette": containers.png_with(png, [palette])})
    add("PNG", png, {"transparent colour": containers.png_with(png, [containers.png_chunk(b"tRNS", bytes(6))])})
    for lossless in (True, False):
        plain = encode(image, "WEBP", lossless=lossless)
        add(f"WebP, lossless {lossless}", plain, containers.odd_webps(plain, SIZE))
    add("BMP", bmp, containers.odd_bmps(bmp))

    webp = encode(image, "WEBP", lossless=True)
    for value in range(2, 9):
        for order in "<>":
            block = containers.oriented(value, order, 3 if order == "<" else 4)
            name = f"orientation {value}{order}"
            found[f"JPEG: {name}"] = (containers.jpeg_with(jpeg, [(0xE1, b"Exif\0\0" + block)]), jpeg, value)
            found[f"PNG: {name}"] = (containers.png_with(png, [containers.png_chunk(b"eXIf", block)]), png, value)
            found[f"WebP: {name}"] = (containers.webp_with(webp, [(b"EXIF", block)], SIZE, 8), webp, value)
        odd = containers.ifd([(0x0112, 3, 1, struct.pack("<HH", value, 0)), (0x8825, 4, 1, b"\xff" * 4)], count=900)
        found[f"JPEG: orientation {value} in odd EXIF"] = (
            containers.jpeg_with(jpeg, [(0xE1, b"Exif\0\0" + odd)]), jpeg, value
        )  # fmt: skip
        text = b"XML:com.adobe.xmp\0\0\0\0\0" + _xmp(value)
        found[f"PNG: orientation {value} in XMP"] = (
            containers.png_with(png, [containers.png_chunk(b"iTXt", text)]), png, value
        )  # fmt: skip
        found[f"JPEG: orientation {value} in XMP"] = (
            containers.jpeg_with(jpeg, [(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + _xmp(value))]), jpeg, value
        )  # fmt: skip
        digits = (b"Exif\0\0" + containers.oriented(value)).hex().encode()
        text = b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n      32\n" + digits + b"\n")
        found[f"PNG: orientation {value} in digits"] = (
            containers.png_with(png, [containers.png_chunk(b"zTXt", text)]), png, value
        )  # fmt: skip
    return found


SOUND = _sound()


def _reader(size: tuple[int, int]) -> ImageReader:
    return ImageReader(InputSpec((size[1], size[0], 3), "uint8"), max_pixels=10_000, max_bytes=10 * 2**20)


def test_there_are_enough_of_them():
    assert len(SOUND) >= 200


@pytest.mark.parametrize("name", SOUND)
def test_it_is_taken_with_the_right_pixels(name: str):
    data, plain, orientation = SOUND[name]
    expected = Image.open(io.BytesIO(plain)).convert("RGB")
    if orientation in TURNS:
        expected = expected.transpose(TURNS[orientation])
    np.testing.assert_array_equal(_reader(expected.size).encoded(data), np.asarray(expected))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_what_lacks_pixels_is_refused_however_odd_the_rest(kind: str):
    data = encode(picture(64, 64, seed=5).effect_spread(20), kind)
    odd = containers.odd(kind, data, (64, 64), random.Random(3))
    with pytest.raises(BadImage):
        _reader((64, 64)).encoded(odd[: odd.rindex(data[-200:-100])])


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xd8" + b"\xff\xe1\0\2" * 200_000,
        b"\x89PNG\r\n\x1a\n" + containers.png_chunk(b"abCd", b"") * 200_000,
        b"RIFF" + struct.pack("<I", 1_600_004) + b"WEBP" + b"abcd\0\0\0\0" * 200_000,
    ],
    ids=["JPEG", "PNG", "WebP"],
)
def test_a_file_of_a_great_many_parts_is_refused(data: bytes):
    with pytest.raises(BadImage, match="more than 100000 parts"):
        _reader(SIZE).encoded(data)


def test_a_png_whose_pixels_are_damaged_is_refused_although_a_decoder_would_read_it():
    image = picture(64, 64, seed=4)
    data = encode(image, "PNG", compress_level=9)
    start, length = data.index(b"IDAT") + 4, int.from_bytes(data[data.index(b"IDAT") - 4 : data.index(b"IDAT")])
    np.testing.assert_array_equal(_reader((64, 64)).encoded(data), np.asarray(image))
    read_all_the_same = 0
    for at in range(start + 8, start + length, max(1, length // 50)):
        damaged = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        try:
            read_all_the_same += bool(Image.open(io.BytesIO(damaged)).load())
        except (OSError, SyntaxError):
            continue
        finally:
            with pytest.raises(BadImage, match="damaged"):
                _reader((64, 64)).encoded(damaged)
    assert read_all_the_same, "the decoder looks at the checksum itself"


def test_avif_is_read_and_turned_upright():
    image = picture(*SIZE)
    exif = Image.Exif()
    exif[0x0112] = 6
    array = _reader((SIZE[1], SIZE[0])).encoded(encode(image, "AVIF", quality=100, exif=exif))
    upright = np.asarray(image.transpose(Image.Transpose.ROTATE_270)).astype(int)
    assert np.abs(array - upright).mean() < 3


def test_avif_with_exif_that_is_none_is_read():
    exif = Image.Exif()
    exif[0x010F] = "a maker"
    data = encode(picture(*SIZE), "AVIF", quality=100, exif=exif)
    at = data.rindex(b"II*\0") if b"II*\0" in data else data.rindex(b"MM\0*")
    odd = data[: at + 4] + b"\xff\xff\xff\x7f" + data[at + 8 :]
    np.testing.assert_array_equal(_reader(SIZE).encoded(odd), _reader(SIZE).encoded(data))


def test_heic_is_read_where_its_extra_is_installed_and_named_elsewhere(monkeypatch: pytest.MonkeyPatch):
    if HEIF:
        data = encode(picture(*SIZE), "HEIF", quality=100)
        assert np.abs(_reader(SIZE).encoded(data) - np.asarray(picture(*SIZE)).astype(int)).mean() < 6
    monkeypatch.setattr("accrete_server.images.HEIF", False)
    with pytest.raises(BadImage, match=r"HEIC is read where .*accrete\[heic\]"):
        _reader(SIZE).encoded(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))


@pytest.mark.parametrize(("kind", "name"), [("GIF", "GIF"), ("TIFF", "TIFF"), ("PDF", "PDF")])
def test_another_format_is_named(kind: str, name: str):
    with pytest.raises(BadImage, match=f"not a JPEG, PNG, WebP or BMP image: this is a {name} file"):
        _reader(SIZE).encoded(encode(picture(), kind))
