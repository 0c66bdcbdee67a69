"""Characters that do not show, by which two labels look like one."""

from __future__ import annotations

import re
import unicodedata

_IGNORABLE = (
    (0x034F, 0x034F), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F), (0x2065, 0x2065), (0x2800, 0x2800),
    (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8), (0xE0000, 0xE0FFF),
)  # fmt: skip
"""Not of category Cf, and ignored by what shows text (Unicode's Default_Ignorable_Code_Point), or blank (Braille)."""

_SHOWN = frozenset((*range(0x0600, 0x0606), 0x06DD, 0x070F, 0x0890, 0x0891, 0x08E2, 0x110BD, 0x110CD))
"""Of category Cf, and shown: signs that stand around digits (Prepended_Concatenation_Mark)."""

_NON_JOINER, _JOINER, _EMOJI_STYLE, _KEYCAP, _VIRAMA = "\u200c", "\u200d", "\ufe0f", "\u20e3", 9
_FLAG = re.compile("\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]+\U000e007f")  # of a part of a country


def _joining(form: str) -> frozenset[str]:
    """Return the Arabic letters that have a form, as the presentation forms' decompositions tell."""
    decompositions = (unicodedata.decomposition(chr(code)) for code in (*range(0xFB50, 0xFE00), *range(0xFE70, 0xFF00)))
    parts = (decomposition.split() for decomposition in decompositions)
    return frozenset(chr(int(part[1], 16)) for part in parts if len(part) == 2 and part[0] == f"<{form}>")


_JOINS_NEXT, _JOINS_LAST = _joining("initial"), _joining("final")


def first_invisible(text: str) -> str | None:
    """Return the first character of a text that does not show where it stands; None if all do.

    Joiners count where they change what is shown: between emoji, behind a virama, and between Arabic letters that would
    be joined (RFC 5892, appendix A), and so do the style of an emoji and the tags of a flag. A blank other than the
    space looks like one, and is invisible, too.
    """
    if text.isascii():
        return None
    text = _FLAG.sub("\U0001f3f4", text)
    for index, character in enumerate(text):
        if _is_invisible(character) and not _shows(text, index):
            return character
    return None


def named(character: str) -> str:
    """Return a character's number and name, such as "U+200B ZERO WIDTH SPACE"."""
    return f"U+{ord(character):04X} {unicodedata.name(character, '')}".rstrip()


def _is_invisible(character: str) -> bool:
    code, category = ord(character), unicodedata.category(character)
    if category == "Cf":
        return code not in _SHOWN
    if category == "Zs":
        return character != " "
    return any(first <= code <= last for first, last in _IGNORABLE)


def _shows(text: str, index: int) -> bool:
    """Return whether an invisible character changes what its neighbours look like."""
    character, before, after = text[index], text[index - 1 : index], text[index + 1 : index + 2]
    if character == _EMOJI_STYLE:
        return _is_emoji(before) or (before in "0123456789#*" and before != "" and after == _KEYCAP)
    if character not in (_JOINER, _NON_JOINER) or not before or not after:
        return False
    if unicodedata.combining(before) == _VIRAMA:
        return unicodedata.category(after).startswith("L")
    if character == _NON_JOINER:
        return before in _JOINS_NEXT and after in _JOINS_LAST
    return _is_emoji(before) and _is_emoji(after)


def _is_emoji(character: str) -> bool:
    """Return whether it is a symbol, a skin tone or the style of an emoji."""
    if not character or character == "\u2800":
        return False
    return (
        unicodedata.category(character) == "So"
        or 0x1F3FB <= ord(character) <= 0x1F3FF
        or 0x2190 <= ord(character) <= 0x21FF
        or character in (_EMOJI_STYLE, "\u2934", "\u2935")
    )
