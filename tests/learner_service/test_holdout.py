"""Which set-aside examples measure."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from accrete_learner_service.holdout import split
from accrete_storage.example import Example, holdout_rank


def example(id: str) -> Example:
    return Example(id=id, label="a", tensor=np.zeros((2, 2, 1), np.uint8))


@given(ids=st.lists(st.text(min_size=1, max_size=8), unique=True), cap=st.integers(0, 8), cut=st.integers(0, 50))
def test_who_measures_does_not_depend_on_the_steps_in_between(ids: list[str], cap: int, cut: int):
    examples = [example(id) for id in ids]
    at_once = split([], examples, cap=cap)
    first = split([], examples[:cut], cap=cap)
    then = split(first.kept, examples[cut:], cap=cap)
    assert [e.id for e in then.kept] == [e.id for e in at_once.kept] == sorted(ids, key=holdout_rank)[:cap]


def test_nobody_is_lost():
    parts = split([example("x")], [example(str(n)) for n in range(9)], cap=4)
    assert len(parts.kept) == 4
    assert {e.id for e in [*parts.kept, *parts.trained]} == {"x", *map(str, range(9))}
