"""Pillow images: recognised without importing Pillow, sent without loss."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from accrete import InvalidInput
from benchmarks.hostile.containers import ODD_EXIF, jpeg_with


def _sent(state) -> Image.Image:
    return Image.open(io.BytesIO(state.requests("Predict")[-1].images[0].encoded))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_pixels_arrive_as_they_were(client, state, mode):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    image = Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 200) if mode == "I;16" else None
    image = image or Image.fromarray(pixels).convert(mode)
    client.predict(image)
    sent = _sent(state)
    assert sent.format == "PNG"
    assert sent.mode == mode
    assert np.array_equal(np.asarray(sent), np.asarray(image))


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "HSV"])
def test_a_mode_that_png_does_not_have_is_sent_as_rgb(client, state, mode):
    image = Image.new("RGB", (4, 4), (200, 30, 60)).convert(mode)
    client.predict(image)
    assert np.array_equal(np.asarray(_sent(state)), np.asarray(image.convert("RGB")))


def test_the_exif_orientation_goes_along_as_it_does_with_the_file(client, state):
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.fromarray(np.arange(60, dtype=np.uint8).reshape(4, 5, 3)).save(file, "PNG", exif=exif)
    opened = Image.open(file)
    client.predict(opened)
    upright = ImageOps.exif_transpose(_sent(state))
    assert upright.size == (4, 5)
    assert np.array_equal(np.asarray(upright), np.asarray(ImageOps.exif_transpose(opened)))


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's own, about the EXIF
@pytest.mark.parametrize("name", ODD_EXIF)
def test_odd_exif_keeps_no_image_from_being_sent(client, state, name):
    file = io.BytesIO()
    Image.fromarray(np.arange(60, dtype=np.uint8).reshape(4, 5, 3)).save(file, "JPEG")
    image = Image.open(io.BytesIO(jpeg_with(file.getvalue(), [(0xE1, b"Exif\0\0" + ODD_EXIF[name])])))
    report = client.add_examples([("cat", image)])
    assert report.stored == 1
    sent = Image.open(io.BytesIO(state.examples[report.ids[0]].image.encoded))
    assert np.array_equal(np.asarray(sent), np.asarray(Image.open(file)))


def test_a_profile_of_any_size_stays_behind(client, state):
    image = Image.new("RGB", (4, 4))
    image.info |= {"icc_profile": bytes(3 << 20), "dpi": (0, 0), "comment": b"x" * 100}
    client.predict(image)
    assert len(state.requests("Predict")[-1].images[0].encoded) < 1000


@pytest.mark.parametrize("mode", ["F", "I"])
def test_a_mode_that_png_would_clip_is_refused(client, mode):
    with pytest.raises(InvalidInput, match=f'mode "{mode}"'):
        client.predict(Image.new(mode, (4, 4)))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP"])
def test_a_truncated_file_is_the_callers_to_hear_about(client, form):
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(file, form)
    with pytest.raises(InvalidInput, match="cannot be read"):
        client.predict(Image.open(io.BytesIO(file.getvalue()[:-2000])))
