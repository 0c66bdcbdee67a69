"""Which labels, ids and metadata are accepted."""

from __future__ import annotations

import unicodedata

import pytest

from accrete_server.errors import InvalidInput
from accrete_server.teach.labels import check_id, check_label, check_metadata


@pytest.mark.parametrize("label", ["cat", "0", "Königspinguin", "сова", "猫", "a b", "👩‍🚀", "x" * 256, "{a}:b/c"])
def test_printable_text_is_a_label(label):
    check_label(label, 256)


@pytest.mark.parametrize(
    "label",
    [
        "👨‍👩‍👧", "🏳️‍🌈", "👍🏽", "❤️", "🧑🏽‍🚀", "1️⃣", "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
        "می‌خواهم", "क्‍ष", "क्‌ष", "Ångström", "\u0600", "e\u20dd", "↔️",
    ],
)  # fmt: skip
def test_what_changes_the_look_of_its_neighbours_is_allowed(label):
    check_label(unicodedata.normalize("NFC", label), 256)


INVISIBLE = {
    "zero-width space": "\u200b", "zero-width joiner": "\u200d", "zero-width non-joiner": "\u200c",
    "word joiner": "\u2060", "byte order mark": "\ufeff", "soft hyphen": "\u00ad", "left-to-right mark": "\u200e",
    "right-to-left mark": "\u200f", "override": "\u202e", "embedding": "\u202a", "isolate": "\u2066",
    "pop": "\u202c", "Arabic letter mark": "\u061c", "grapheme joiner": "\u034f", "Hangul filler": "\u3164",
    "half-width filler": "\uffa0", "choseong filler": "\u115f", "Mongolian separator": "\u180e",
    "variation selector": "\ufe01", "emoji style": "\ufe0f", "text style": "\ufe0e", "tag": "\U000e0061",
    "supplementary selector": "\U000e0100", "invisible times": "\u2062", "no-break space": "\u00a0",
    "em space": "\u2003", "ideographic space": "\u3000", "blank Braille": "\u2800", "reserved": "\u2065",
    "annotation": "\ufff9", "musical beam": "\U0001d173",
}  # fmt: skip


@pytest.mark.parametrize("name", INVISIBLE)
def test_a_character_that_does_not_show_is_refused_and_named(name):
    for label in (f"ca{INVISIBLE[name]}t", f"猫{INVISIBLE[name]}の"):
        with pytest.raises(InvalidInput, match=rf"label: holds U\+{ord(INVISIBLE[name]):04X}.* does not show"):
            check_label(label, 256)
    for label in (f"cat{INVISIBLE[name]}", f"{INVISIBLE[name]}cat"):
        with pytest.raises(InvalidInput, match="does not show|blank"):
            check_label(label, 256)


@pytest.mark.parametrize("label", ["را\u200cه", "a\u200dב", "👩\u200d", "\u200d👩", "👩\u200d\u200d🚀", "🏴\U000e0067"])
def test_a_joiner_that_joins_nothing_is_refused(label):
    with pytest.raises(InvalidInput, match="does not show"):
        check_label(label, 256)


def test_what_is_decomposed_is_named():
    with pytest.raises(InvalidInput, match=r"NFC.*because of U\+0301 COMBINING ACUTE ACCENT"):
        check_label("cafe\u0301", 256)
    with pytest.raises(InvalidInput, match=r"NFC.*because of U\+212B ANGSTROM SIGN"):
        check_label("a\u212b", 256)


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
