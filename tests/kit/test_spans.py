"""Spans of time in words."""

import pytest

from accrete_kit.spans import in_words


@pytest.mark.parametrize(("seconds", "words"), [(3.4, "3 s"), (89, "89 s"), (600, "10 minutes"), (12_240, "3.4 hours")])
def test_a_span_is_told_in_the_unit_that_fits(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
