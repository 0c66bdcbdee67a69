"""An example's bytes come back as the example; anything else is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accrete_storage.errors import CorruptRecord
from accrete_storage.examples.example import Example, pack, unpack
from accrete_storage.examples.ids import content_digest, is_holdout


@given(
    example_id=st.text(min_size=1, max_size=20),
    label=st.text(min_size=1, max_size=20),
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    metadata=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
    as_float=st.booleans(),
    made_from=st.frozensets(st.text(max_size=5), max_size=3),
)
def test_an_example_survives_packing(example_id, label, shape, metadata, as_float, made_from):
    dtype = np.float32 if as_float else np.uint8
    tensor = np.arange(np.prod(shape), dtype=dtype).reshape(shape)
    example = Example(id=example_id, label=label, content=tensor, metadata=metadata, made_from=made_from)
    found = unpack(pack(example))
    assert (found.id, found.label, dict(found.metadata)) == (example_id, label, metadata)
    assert found.made_from == made_from
    assert found.tensor.dtype == tensor.dtype
    assert (found.tensor == tensor).all()


@given(st.binary(max_size=200))
def test_junk_is_refused(data: bytes):
    with pytest.raises(CorruptRecord):
        unpack(data)


def test_another_dtype_is_refused():
    with pytest.raises(ValueError, match="float64"):
        pack(Example(id="a", label="b", content=np.zeros(3)))


def test_the_digest_depends_on_label_and_content_alone():
    ones, zeros = np.ones((2, 2, 1), np.uint8), np.zeros((2, 2, 1), np.uint8)
    assert content_digest("a", ones) == content_digest("a", ones.copy())
    assert len({content_digest("a", ones), content_digest("a", zeros), content_digest("b", ones)}) == 3
    assert content_digest("a", ones) != content_digest("a", ones.reshape(4, 1, 1))


def test_the_share_of_the_hold_out_is_met():
    flagged = sum(is_holdout(str(number), 0.1) for number in range(10_000))
    assert 850 < flagged < 1150
    assert not any(is_holdout(str(number), 0.0) for number in range(1000))
