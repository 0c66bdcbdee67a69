"""Which set-aside examples measure."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from accrete_learner_service.step.holdout import choose_holdout
from accrete_storage.examples.example import Example
from accrete_storage.examples.ids import holdout_rank


def example(id: str, principal: str = "") -> Example:
    return Example(id=id, label="a", content=np.zeros((2, 2, 1), np.uint8), principal=principal)


@given(ids=st.lists(st.text(min_size=1, max_size=8), unique=True), cap=st.integers(0, 8), cut=st.integers(0, 50))
def test_who_measures_does_not_depend_on_the_steps_in_between(ids: list[str], cap: int, cut: int):
    examples = [example(id) for id in ids]
    at_once, _ = choose_holdout([], examples, cap=cap, per_principal=cap)
    first, _ = choose_holdout([], examples[:cut], cap=cap, per_principal=cap)
    then, _ = choose_holdout(first, examples[cut:], cap=cap, per_principal=cap)
    assert [e.id for e in then] == [e.id for e in at_once] == sorted(ids, key=holdout_rank)[:cap]


def test_nobody_is_lost():
    holdout, left_over = choose_holdout([example("x")], [example(str(n)) for n in range(9)], cap=4, per_principal=4)
    assert len(holdout) == 4
    assert {e.id for e in [*holdout, *left_over]} == {"x", *map(str, range(9))}


@given(
    ids=st.lists(st.text(min_size=1, max_size=8), unique=True, max_size=30),
    per_principal=st.integers(1, 4),
    cut=st.integers(0, 30),
)
def test_no_principal_has_more_than_its_places_whatever_the_steps_in_between(
    ids: list[str], per_principal: int, cut: int
):
    examples = [example(id, "ann" if holdout_rank(id) % 3 else "bob") for id in ids]
    at_once, left_over = choose_holdout([], examples, cap=6, per_principal=per_principal)
    first, _ = choose_holdout([], examples[:cut], cap=6, per_principal=per_principal)
    then, _ = choose_holdout(first, examples[cut:], cap=6, per_principal=per_principal)
    assert [e.id for e in then] == [e.id for e in at_once]
    for principal in ("ann", "bob"):
        theirs = sum(e.principal == principal for e in examples)
        kept = sum(e.principal == principal for e in at_once)
        assert kept <= min(per_principal, theirs)
        assert len(at_once) == 6 or kept == min(per_principal, theirs)
    assert len(at_once) + len(left_over) == len(ids)
