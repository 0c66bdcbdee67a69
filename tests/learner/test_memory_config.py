"""The exemplar budget is never exceeded, and bad ones are refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accrete_learner.memory.config import MemoryConfig


@given(size=st.integers(0, 10_000), classes=st.integers(1, 500))
def test_a_total_budget_is_used_as_far_as_equal_shares_go_and_never_exceeded(size: int, classes: int):
    share = MemoryConfig(kind="total", size=size).per_class(classes)
    assert share * classes <= size < (share + 1) * classes


def test_a_budget_per_class_does_not_depend_on_the_classes():
    assert [MemoryConfig(kind="per_class", size=20).per_class(classes) for classes in (1, 10, 1000)] == [20, 20, 20]


@pytest.mark.parametrize(("field", "value"), [("kind", "both"), ("size", -1)])
def test_a_bad_budget_is_refused_by_field_and_value(field: str, value: Any):
    with pytest.raises(ValueError, match=f"{field} = {value!r}: must be"):
        MemoryConfig(**{field: value})


def test_no_class_has_no_share():
    with pytest.raises(ValueError, match="classes = 0"):
        MemoryConfig().per_class(0)


def test_a_total_that_keeps_nothing_of_any_class_is_told():
    assert "less than one exemplar for each of 21 classes" in MemoryConfig(kind="total", size=20).too_small(21)
    assert not MemoryConfig(kind="total", size=20).too_small(20)
    assert not MemoryConfig(kind="total", size=20).too_small(0)
    assert not MemoryConfig(kind="total", size=0).too_small(5)
    assert not MemoryConfig(kind="per_class", size=1).too_small(3000)
