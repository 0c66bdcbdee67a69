"""Which labels, ids and metadata are accepted."""

from __future__ import annotations

import pytest

from accrete_server.errors import InvalidInput
from accrete_server.teach.labels import check_id, check_label, check_metadata


@pytest.mark.parametrize("label", ["cat", "0", "Königspinguin", "сова", "猫", "a b", "👩‍🚀", "x" * 256, "{a}:b/c"])
def test_printable_text_is_a_label(label):
    check_label(label, 256)


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("\u3000", "empty"),
        ("x" * 257, "257 bytes of UTF-8; max_label_bytes is 256"),
        ("猫" * 86, "258 bytes"),
        ("a\nb", "control"),
        ("a\x00b", "control"),
        ("a\x7fb", "control"),
        ("a\u2028b", "control"),
        (" cat", "blank"),
        ("cat ", "blank"),
        ("cafe\u0301", "NFC"),
    ],
)
def test_other_text_is_refused_with_the_reason(label, reason):
    with pytest.raises(InvalidInput, match=reason):
        check_label(label, 256)


@pytest.mark.parametrize("example_id", ["", "x" * 129, "a\nb"])
def test_ids_have_1_to_128_printable_characters(example_id):
    check_id("x" * 128)
    with pytest.raises(InvalidInput, match="id"):
        check_id(example_id)


def test_metadata_is_bounded():
    check_metadata({str(index): "x" for index in range(16)})
    with pytest.raises(InvalidInput, match="17 entries"):
        check_metadata({str(index): "x" for index in range(17)})
    with pytest.raises(InvalidInput, match="1025 bytes"):
        check_metadata({"k": "x" * 1024})
