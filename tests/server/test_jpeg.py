"""JPEG files give the same pixels, and the same reasons, whichever library decodes them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from accrete_model import jpeg
from accrete_model.input_spec import InputSpec
from accrete_server.images import BadImage, ImageReader
from tests.server.pictures import encode, picture

pytest.importorskip(
    "simplejpeg", reason="no wheel for this system: Pillow decodes here, and there is nothing to compare"
)

PICTURE = picture(211, 135).resize((331, 277), Image.Resampling.BICUBIC)
"""With odd sides, so that blocks are cut off."""
FILES = {
    "4:4:4": encode(PICTURE, "JPEG", subsampling=0),
    "4:2:2": encode(PICTURE, "JPEG", subsampling=1),
    "4:2:0": encode(PICTURE, "JPEG", subsampling=2),
    "progressive": encode(PICTURE, "JPEG", progressive=True),
    "restarts": encode(PICTURE, "JPEG", restart_marker_blocks=5),
    "stored as RGB": encode(PICTURE, "JPEG", keep_rgb=True),
    "grey": encode(PICTURE.convert("L"), "JPEG"),
    "CMYK": encode(PICTURE.convert("CMYK"), "JPEG"),
}


def decoded(data: bytes, channels: int, enough: int) -> tuple[object, ...]:
    """Return size and pixels as the file's are, and as the model takes them; or the reason why there are none."""
    reader = ImageReader(InputSpec((24, 20, channels), "uint8", 32), max_pixels=100_000, max_bytes=10**6)
    try:
        image = reader.upright(data, enough)
        return image.size, image.convert("RGB").tobytes(), reader.encoded(data).tobytes()
    except BadImage as error:
        return (str(error),)


def by_pillow(data: bytes, channels: int, enough: int) -> tuple[object, ...]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jpeg, "simplejpeg", None)
        return decoded(data, channels, enough)


@pytest.mark.parametrize("enough", [300, 130, 69, 34, 1])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", FILES)
def test_both_libraries_give_the_same_pixels_at_every_scale(kind: str, channels: int, enough: int):
    size, *pixels = decoded(FILES[kind], channels, enough)
    assert [size, *pixels] == list(by_pillow(FILES[kind], channels, enough))
    scale = {300: 1, 130: 2, 69: 4, 34: 8, 1: 8}[enough]
    assert size == (-(-331 // scale), -(-277 // scale))


@pytest.mark.parametrize("kind", FILES)
def test_what_is_stored_is_decoded_the_same_by_both(kind: str, monkeypatch: pytest.MonkeyPatch):
    fast = jpeg.pixels(FILES[kind])
    assert not fast.flags.writeable
    monkeypatch.setattr(jpeg, "simplejpeg", None)
    np.testing.assert_array_equal(fast, jpeg.pixels(FILES[kind]))


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(sorted(FILES)),
    changes=st.lists(st.tuples(st.integers(2, 900), st.integers(0, 255)), max_size=4),
    kept=st.one_of(st.just(1.0), st.floats(0, 1)),
    channels=st.sampled_from([1, 3]),
)
def test_a_damaged_file_means_the_same_to_both(kind: str, changes: list[tuple[int, int]], kept: float, channels: int):
    data = bytearray(FILES[kind])
    for place, value in changes:
        data[place % len(data)] = value
    damaged = bytes(data[: int(kept * len(data))])
    assert decoded(damaged, channels, 60) == by_pillow(damaged, channels, 60)


def test_a_size_is_checked_before_anything_is_decoded():
    def refuse(width: int, height: int) -> None:
        raise BadImage(f"{width} x {height}")

    start = FILES["4:2:0"][: FILES["4:2:0"].index(b"\xff\xda") + 14]  # no pixels follow
    with pytest.raises(BadImage, match="331 x 277"):
        jpeg.image(start, grey=False, enough=8, check=refuse)


def test_the_library_decodes_what_it_says_it_does():
    image = jpeg.image(FILES["4:2:0"], grey=False, enough=300, check=lambda width, height: None)
    assert image is not None
    assert image.mode == jpeg.PADDED
    assert jpeg.LIBRARY.startswith("simplejpeg ")
    assert jpeg.image(FILES["CMYK"], grey=False, enough=300, check=lambda width, height: None) is None
