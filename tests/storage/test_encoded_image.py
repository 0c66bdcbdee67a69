"""Large images are stored as JPEG once, and come back nearly as they were; everything else stays as it is."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from accrete_storage.errors import CorruptRecord
from accrete_storage.examples.encoded_image import EncodedImage
from accrete_storage.examples.example import Arrival, Example, pack, unpack
from tests.storage.conftest import Connect


def picture(height: int, width: int, channels: int) -> NDArray[np.uint8]:
    """Blurred blocks with a little noise, about as smooth as a photograph."""
    generator = np.random.default_rng(0)
    blocks = generator.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(blocks).resize((width, height), Image.Resampling.BICUBIC)).astype(np.int64)
    noisy = (smooth + generator.integers(-4, 5, smooth.shape)).clip(0, 255).astype(np.uint8)
    return noisy[:, :, :channels]


def arrival(tensor: NDArray[np.generic], quality: int) -> Arrival:
    return Arrival.of(Example(id="a", label="b", content=tensor, metadata={"n": "1"}), image_quality=quality)


@pytest.mark.parametrize("shape", [(224, 224, 3), (64, 100, 3), (96, 64, 1)])
def test_a_large_image_takes_less_and_comes_back_nearly_as_it_was(shape: tuple[int, int, int]):
    tensor = picture(*shape)
    packed, raw = arrival(tensor, 90), arrival(tensor, 0)
    assert len(packed.record) < len(raw.record) / 3
    assert (packed.id, packed.digest, packed.earlier_digest) == (raw.id, raw.digest, raw.earlier_digest)
    found = unpack(packed.record)
    assert (found.id, found.label, dict(found.metadata)) == ("a", "b", {"n": "1"})
    assert (found.tensor.shape, found.tensor.dtype.name) == (shape, "uint8")
    assert np.abs(found.tensor.astype(int) - tensor).mean() < 3
    assert not found.tensor.flags.writeable


@pytest.mark.parametrize(
    "tensor",
    [
        picture(63, 200, 3),
        picture(32, 32, 3),
        picture(64, 64, 3).astype(np.float16),
        np.ones(4096, np.float32),
    ],
    ids=["small side", "cifar", "made by a step", "embedding"],
)
def test_everything_else_is_stored_to_the_bit(tensor: NDArray[np.generic]):
    record = arrival(tensor, 90).record
    assert record == pack(Example(id="a", label="b", content=tensor, metadata={"n": "1"}))
    np.testing.assert_array_equal(unpack(record).tensor, tensor)


def test_a_higher_quality_keeps_more():
    tensor = picture(128, 128, 3)
    records = [arrival(tensor, quality).record for quality in (50, 90, 100)]
    errors = [np.abs(unpack(record).tensor.astype(int) - tensor).mean() for record in records]
    assert len(records[0]) < len(records[1]) < len(records[2])
    assert errors[0] > errors[1] > errors[2]


def test_storing_it_anew_loses_nothing_more():
    record = arrival(picture(80, 80, 3), 90).record
    again = unpack(record)
    assert pack(again) == record
    assert Arrival.of(again, image_quality=50).record == record


def test_it_is_encoded_as_the_setting_says(connect: Connect):
    tensor = picture(64, 64, 3)
    connect().pending.add([Example(id="a", label="by default", content=tensor)])
    connect(image_quality=0).pending.add([Example(id="b", label="as it is", content=tensor)])
    by_default, as_it_is = (connect().pending.read(label)[0].example for label in ("by default", "as it is"))
    assert isinstance(by_default.content, EncodedImage)
    np.testing.assert_array_equal(as_it_is.content, tensor)
    assert connect().pending.total().bytes < 1.5 * tensor.nbytes


def test_damage_shows_when_the_pixels_are_asked_for():
    whole = EncodedImage.of(picture(64, 64, 3), 90)
    assert whole is not None
    damaged = [
        EncodedImage(data=whole.data[:300], shape=whole.shape),
        EncodedImage(data=b"no image", shape=whole.shape),
        EncodedImage(data=whole.data, shape=(64, 65, 3)),
        EncodedImage(data=whole.data, shape=(64, 64, 1)),
    ]
    for content in damaged:
        found = unpack(pack(Example(id="a", label="b", content=content)))
        assert found.id == "a"
        with pytest.raises(CorruptRecord, match="cannot be decoded"):
            _ = found.tensor


def test_an_image_that_cannot_be_decoded_is_deleted_like_others(connect: Connect):
    store = connect()
    damaged = EncodedImage(data=b"no image", shape=(64, 64, 3))
    # Its digest cannot be had, so it is added as the server adds it: with that of what was sent.
    whole = Arrival.of(Example(id="a-0", label="a", content=picture(64, 64, 3)))
    record = pack(Example(id="a-0", label="a", content=damaged))
    store.pending.add([whole._replace(record=record)])
    assert store.control.delete_examples(["a-0"]).deleted == 1
    assert store.pending.total().examples == 0
