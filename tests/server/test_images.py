"""What becomes of images as they are sent."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from accrete_model.input_spec import InputSpec
from accrete_server.images import BadImage, ImageReader, allow_large_headers, webp_size
from tests.server.pictures import bmp_header, encode, picture, png_header, webp_header

RGB = InputSpec((6, 10, 3), "uint8")
GREY = InputSpec((6, 10, 1), "uint8")
VECTOR = InputSpec((4,), "float32")

MODES = {
    "PNG": ("RGB", "L", "RGBA", "P", "1", "LA", "I;16"),
    "JPEG": ("RGB", "L", "1", "CMYK"),
    "WEBP": ("RGB", "L", "RGBA", "P", "1", "LA", "CMYK"),
    "BMP": ("RGB", "L", "RGBA", "P", "1"),
}


@pytest.fixture(autouse=True)
def _large_headers(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    allow_large_headers()


def _reader(spec: InputSpec = RGB, *, max_pixels: int = 10_000, max_bytes: int = 100_000) -> ImageReader:
    return ImageReader(spec, max_pixels=max_pixels, max_bytes=max_bytes)


@pytest.mark.parametrize("spec", [RGB, GREY])
@pytest.mark.parametrize(("kind", "mode"), [(kind, mode) for kind, modes in MODES.items() for mode in modes])
def test_every_format_and_mode_comes_out_as_the_model_takes_it(kind, mode, spec):
    image = Image.fromarray(np.full((9, 7), 40000, np.uint16)) if mode == "I;16" else picture(7, 9).convert(mode)
    array = _reader(spec).encoded(encode(image, kind))
    assert (array.shape, array.dtype.name) == (spec.shape, "uint8")


def test_an_image_of_the_models_size_in_a_lossless_format_comes_out_pixel_by_pixel():
    image = picture(10, 6)
    np.testing.assert_array_equal(_reader().encoded(encode(image, "PNG")), np.asarray(image))


def test_shrinking_averages_rather_than_skips():
    stripes = np.zeros((60, 100, 3), np.uint8)
    stripes[:, ::2] = 255
    array = _reader().encoded(encode(Image.fromarray(stripes), "PNG"))
    assert abs(int(array.mean()) - 127) < 3
    assert array.std() < 10


THIRDS = np.repeat(np.array([[[250, 0, 0], [0, 250, 0], [0, 0, 250]]], np.uint8), 100, axis=1).repeat(100, axis=0)
"""100 x 300: red, green and blue from left to right."""


@pytest.mark.parametrize("image", [THIRDS, THIRDS.transpose(1, 0, 2)], ids=["wide", "high"])
def test_the_middle_is_taken_where_the_model_is_set_to_crop(image):
    cropping = _reader(InputSpec((32, 32, 3), "uint8", shorter_side=40), max_pixels=100_000)
    encoded = cropping.encoded(encode(Image.fromarray(image), "PNG"))
    assert encoded.reshape(-1, 3).min(axis=0).tolist() == [0, 250, 0]
    assert encoded.reshape(-1, 3).max(axis=0).tolist() == [0, 250, 0]
    np.testing.assert_array_equal(cropping.pixels(image.shape, image.tobytes()), encoded)
    stretching = _reader(InputSpec((32, 32, 3), "uint8"), max_pixels=100_000)
    stretched = stretching.encoded(encode(Image.fromarray(image), "PNG"))
    assert stretched.reshape(-1, 3).max(axis=0).tolist() == [250, 250, 250]


def test_cropping_is_resizing_and_then_taking_the_middle():
    image = picture(900, 600)
    found = _reader(InputSpec((224, 224, 3), "uint8", 256), max_pixels=10**6).encoded(encode(image, "PNG"))
    resized = image.resize((384, 256), Image.Resampling.BILINEAR).crop((80, 16, 304, 240))
    assert np.abs(found.astype(int) - np.asarray(resized)).max() <= 1


def test_a_large_jpeg_is_cropped_like_the_same_picture_in_png():
    image = picture(1900, 1500)
    cropping = _reader(InputSpec((64, 64, 3), "uint8", 80), max_pixels=10**7, max_bytes=10**7)
    jpeg, png = (cropping.encoded(encode(image, kind)) for kind in ("JPEG", "PNG"))
    assert np.abs(jpeg.astype(int) - png).mean() < 3


@pytest.mark.parametrize(
    ("sides", "enough", "found"),
    [
        ((331, 277), 140, (331, 277)),
        ((331, 277), 138, (166, 139)),
        ((331, 277), 69, (83, 70)),
        ((331, 277), 34, (42, 35)),
        ((331, 277), 2, (42, 35)),
    ],
)
def test_a_jpeg_is_decoded_as_small_as_is_still_enough(sides: tuple[int, int], enough: int, found: tuple[int, int]):
    data = encode(picture(*sides), "JPEG")
    assert _reader(max_pixels=10**6).upright(data, enough).size == found


def test_a_huge_image_is_averaged_first_to_nearly_the_same_pixels():
    image = picture(2400, 1800).effect_spread(40)
    found = _reader(InputSpec((64, 64, 3), "uint8", 80), max_pixels=10**7, max_bytes=10**8).pixels(
        (1800, 2400, 3), image.tobytes()
    )
    middle = (480, 180, 1920, 1620)
    exact = np.asarray(image.resize((64, 64), Image.Resampling.BILINEAR, box=middle))
    assert 0 < np.abs(found.astype(int) - exact).max() <= 4


@given(st.integers(1, 400), st.integers(1, 400), st.sampled_from([32, 33, 37, 64]))
def test_images_of_all_sizes_can_be_cropped(width, height, shorter_side):
    spec = InputSpec((24, 32, 1), "uint8", shorter_side)
    array = _reader(spec, max_pixels=10**6, max_bytes=10**6).pixels((height, width), bytes(width * height))
    assert array.shape == spec.shape


def test_a_large_jpeg_looks_like_the_same_picture_in_png():
    image = picture(90, 70, seed=3)
    from_jpeg = _reader().encoded(encode(image, "JPEG", quality=95)).astype(int)
    from_png = _reader().encoded(encode(image, "PNG")).astype(int)
    assert np.abs(from_jpeg - from_png).mean() < 6


def test_the_exif_orientation_is_applied():
    image = picture(6, 10)  # stored lying on its side
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees clockwise to show
    upright = _reader().encoded(encode(image, "PNG", exif=exif))
    np.testing.assert_array_equal(upright, np.asarray(image.transpose(Image.Transpose.ROTATE_270)))


def test_alpha_is_dropped():
    image = picture(10, 6, "RGBA")
    np.testing.assert_array_equal(_reader().encoded(encode(image, "PNG")), np.asarray(image)[:, :, :3])


def test_grey_of_16_bits_is_scaled_to_8():
    image = Image.fromarray(np.full((6, 10), 0x8040, np.uint16))
    assert set(np.unique(_reader(GREY).encoded(encode(image, "PNG")))) == {0x80}


def test_a_palette_with_transparency_is_opened():
    image = picture(10, 6).quantize(8)
    data = encode(image, "PNG", transparency=b"\x00\x80")
    np.testing.assert_array_equal(_reader().encoded(data), np.asarray(image.convert("RGB")))


def test_only_the_first_frame_of_an_animation_counts():
    frames = [picture(10, 6, seed=seed) for seed in (1, 2)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "PNG", save_all=True, append_images=frames[1:], duration=10)
    np.testing.assert_array_equal(_reader().encoded(buffer.getvalue()), np.asarray(frames[0]))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no bytes"),
        (b"hello, I am no image", "not a JPEG, PNG, WebP or BMP"),
        (encode(picture(), "GIF"), "not a JPEG, PNG, WebP or BMP"),
        (encode(picture(), "TIFF"), "not a JPEG, PNG, WebP or BMP"),
        (encode(picture(), "PPM"), "not a JPEG, PNG, WebP or BMP"),
        (b"\x89PNG\r\n\x1a\n", "not a JPEG, PNG, WebP or BMP"),
        (png_header(9, 9), "damaged PNG"),
        (bmp_header(5, 5), "damaged BMP"),
        (b"x" * 100_001, "max_image_bytes is 100000"),
        (png_header(101, 100), "101 x 100 is 10100 pixels; max_pixels is 10000"),
        (bmp_header(101, 100), "max_pixels"),
        (webp_header(101, 100), "max_pixels"),
        (png_header(40_000, 40_000), "1600000000 pixels; max_pixels"),
        (webp_header(2**24, 2**24), "max_pixels"),
        (png_header(1, 70_000), "pixels"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{len(value)}b",
)
def test_what_is_no_image_is_refused_with_the_reason(data, reason):
    with pytest.raises(BadImage, match=reason):
        _reader().encoded(data)


def test_a_side_may_not_be_absurd_even_when_the_pixels_are_few():
    with pytest.raises(BadImage, match="a side has at most 65535"):
        _reader(max_pixels=10**9).encoded(png_header(1, 70_000))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_truncated_file_is_refused(kind, share):
    data = encode(picture(64, 64, seed=5).effect_spread(20), kind)
    with pytest.raises(BadImage):
        _reader().encoded(data[: int(len(data) * share)])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP"])
@settings(max_examples=60, deadline=None)
@given(changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=8))
def test_a_damaged_file_gives_an_array_or_a_reason_and_nothing_else(kind, changes):
    data = bytearray(encode(picture(20, 20), kind))
    for place, value in changes:
        data[place % len(data)] = value
    try:
        array = _reader().encoded(bytes(data))
    except BadImage:
        return
    assert array.shape == RGB.shape


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=200))
def test_random_bytes_are_refused(data):
    with pytest.raises(BadImage):
        _reader().encoded(data)


@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize("size", [(1, 1), (33, 70), (300, 2)])
def test_the_size_of_a_webp_is_read_from_its_header(size, lossless):
    assert webp_size(encode(picture(*size), "WEBP", lossless=lossless)) == size
    assert webp_size(encode(picture(*size), "PNG")) is None


def test_a_bomb_is_refused_without_being_decoded():
    code = (
        "import resource, sys\n"
        "from accrete_model.input_spec import InputSpec\n"
        "from accrete_server.images import BadImage, ImageReader, allow_large_headers\n"
        "from tests.server.pictures import png_header, webp_header\n"
        "allow_large_headers()\n"
        "reader = ImageReader(InputSpec((8, 8, 3), 'uint8'), max_pixels=25_000_000, max_bytes=10**7)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for data in (png_header(60_000, 60_000), webp_header(16_000, 16_000)):\n"
        "    try:\n"
        "        reader.encoded(data)\n"
        "    except BadImage:\n"
        "        continue\n"
        "    sys.exit('not refused')\n"
        "grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before\n"
        "assert grown < 50_000, grown\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300, env={"PYTHONPATH": ":".join(sys.path)})


@pytest.mark.parametrize("shape", [(6, 10), (6, 10, 1), (6, 10, 3), (6, 10, 4), (9, 5), (9, 5, 3)])
@pytest.mark.parametrize("spec", [RGB, GREY])
def test_raw_pixels_of_any_allowed_shape_come_out_as_the_model_takes_them(shape, spec):
    values = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    array = _reader(spec).pixels(shape, values.tobytes())
    assert (array.shape, array.dtype.name) == (spec.shape, "uint8")


def test_raw_pixels_of_the_models_shape_are_taken_as_they_are():
    values = np.random.default_rng(0).integers(0, 256, RGB.shape, dtype=np.uint8)
    np.testing.assert_array_equal(_reader().pixels(RGB.shape, values.tobytes()), values)


@pytest.mark.parametrize(
    ("shape", "length", "reason"),
    [
        ((), 1, "shape"),
        ((6,), 6, "shape"),
        ((2, 2, 2), 8, "shape"),
        ((1, 2, 2, 3), 12, "shape"),
        ((0, 5), 0, "no pixels"),
        ((-2, -5), 10, "no pixels"),
        ((4, 4, 3), 47, "47 bytes for shape .*; 48 are needed"),
        ((200, 200), 40_000, "max_pixels"),
    ],
)
def test_raw_pixels_that_do_not_fit_are_refused_with_the_reason(shape, length, reason):
    with pytest.raises(BadImage, match=reason):
        _reader().pixels(shape, bytes(length))


def test_a_vector_is_taken_as_it_is():
    values = np.array([1, -2, 3.5, 0], "<f4")
    np.testing.assert_array_equal(_reader(VECTOR).vector((4,), values.tobytes()), values)


@pytest.mark.parametrize(
    ("shape", "values", "reason"),
    [
        ((3,), [1, 2, 3], r"float32 shape \[3\]; this model takes float32 \[4\]"),
        ((4,), [1, 2, 3], "12 bytes"),
        ((4,), [1, 2, 3, np.nan], "not finite"),
        ((4,), [1, 2, 3, np.inf], "not finite"),
        ((4,), [1, 2, 3, -1e20], "beyond"),
    ],
)
def test_a_vector_that_does_not_fit_is_refused_with_the_reason(shape, values, reason):
    with pytest.raises(BadImage, match=reason):
        _reader(VECTOR).vector(shape, np.array(values, "<f4").tobytes())


def test_images_for_an_embedding_model_and_vectors_for_an_image_model_are_refused():
    with pytest.raises(BadImage, match="takes embeddings"):
        _reader(VECTOR).encoded(encode(picture(), "PNG"))
    with pytest.raises(BadImage, match="takes embeddings"):
        _reader(VECTOR).pixels((2, 2), bytes(4))
    with pytest.raises(BadImage, match="takes images"):
        _reader().vector((4,), bytes(16))


@pytest.mark.parametrize(("scans", "taken"), [(5, True), (150, False)])
def test_a_jpeg_of_a_great_many_scans_is_refused_without_being_decoded(scans: int, taken: bool):
    file = io.BytesIO()
    Image.new("RGB", (64, 64)).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    last = data.rindex(b"\xff\xda")
    data = data[:-2] + data[last:-2] * scans + b"\xff\xd9"
    if taken:
        assert _reader(RGB).encoded(data).shape == RGB.shape
    else:
        with pytest.raises(BadImage, match="scans; at most 100"):
            _reader(RGB).encoded(data)
