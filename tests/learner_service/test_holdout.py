"""Which set-aside examples measure."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from accrete_learner_service.step.holdout import split
from accrete_storage.examples.example import Example
from accrete_storage.examples.ids import holdout_rank


def example(id: str, principal: str = "") -> Example:
    return Example(id=id, label="a", tensor=np.zeros((2, 2, 1), np.uint8), principal=principal)


@given(ids=st.lists(st.text(min_size=1, max_size=8), unique=True), cap=st.integers(0, 8), cut=st.integers(0, 50))
def test_who_measures_does_not_depend_on_the_steps_in_between(ids: list[str], cap: int, cut: int):
    examples = [example(id) for id in ids]
    at_once = split([], examples, cap=cap, each=cap)
    first = split([], examples[:cut], cap=cap, each=cap)
    then = split(first.kept, examples[cut:], cap=cap, each=cap)
    assert [e.id for e in then.kept] == [e.id for e in at_once.kept] == sorted(ids, key=holdout_rank)[:cap]


def test_nobody_is_lost():
    parts = split([example("x")], [example(str(n)) for n in range(9)], cap=4, each=4)
    assert len(parts.kept) == 4
    assert {e.id for e in [*parts.kept, *parts.trained]} == {"x", *map(str, range(9))}


@given(
    ids=st.lists(st.text(min_size=1, max_size=8), unique=True, max_size=30),
    each=st.integers(1, 4),
    cut=st.integers(0, 30),
)
def test_no_principal_has_more_than_its_places_whatever_the_steps_in_between(ids: list[str], each: int, cut: int):
    examples = [example(id, "ann" if holdout_rank(id) % 3 else "bob") for id in ids]
    at_once = split([], examples, cap=6, each=each)
    first = split([], examples[:cut], cap=6, each=each)
    then = split(first.kept, examples[cut:], cap=6, each=each)
    assert [e.id for e in then.kept] == [e.id for e in at_once.kept]
    for principal in ("ann", "bob"):
        theirs = sum(e.principal == principal for e in examples)
        kept = sum(e.principal == principal for e in at_once.kept)
        assert kept <= min(each, theirs)
        assert len(at_once.kept) == 6 or kept == min(each, theirs)
    assert len(at_once.kept) + len(at_once.trained) == len(ids)
