"""What one principal may have of a class: among its exemplars, and in the hold-out by which the gate judges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from accrete_learner_service.principal_shares import first_of_each, places_of_one, share_exemplars
from accrete_storage.examples.example import Example
from accrete_storage.store import Store
from benchmarks.waiting import until
from tests.learner_service.helpers import RunningLearner, digits


def by(principal: str, taught: list[Example]) -> list[Example]:
    return [replace(one, principal=principal) for one in taught]


def names(examples: list[Example]) -> list[str]:
    return [one.principal for one in examples]


def test_a_share_is_at_least_one_place():
    assert [places_of_one(share, 20) for share in (1.0, 0.5, 0.33, 0.01)] == [20, 10, 6, 1]


def test_those_beyond_the_first_of_their_principal_are_left_out_in_order_and_nobodys_are_not():
    taught = [
        *by("ann", digits(0, 3)),
        *by("", digits(0, 3, 3)),
        *by("bob", digits(0, 1, 6)),
        *by("ann", digits(0, 1, 7)),
    ]
    assert names(first_of_each(taught, 2)) == ["ann", "ann", "", "", "", "bob"]


def test_places_beyond_a_share_are_given_to_others_as_far_as_there_are_any():
    ann, bob = by("ann", digits(0, 10)), by("bob", digits(0, 3, 10))
    shared = share_exemplars({"digit 0": ann[:6]}, ["digit 0"], [*ann, *bob], per_class=6, share=0.5)
    assert names(shared["digit 0"][:3]) == ["ann"] * 3
    assert shared["digit 0"][:3] == ann[:3], "the best first, as they were ranked"
    assert Counter(names(shared["digit 0"])) == {"ann": 3, "bob": 3}
    alone = share_exemplars({"digit 0": ann[:6]}, ["digit 0"], ann, per_class=6, share=0.5)
    assert alone["digit 0"] == ann[:3]


def test_a_class_that_was_not_chosen_anew_keeps_to_a_share_of_fewer_places():
    kept = [*by("ann", digits(0, 3)), *by("bob", digits(0, 3, 3))]
    shared = share_exemplars({}, ["digit 0"], kept, per_class=4, share=0.5)
    assert names(shared["digit 0"]) == ["ann", "ann", "bob", "bob"]
    assert share_exemplars({}, ["digit 0"], kept, per_class=6, share=0.5) == {}, (
        "nothing is written that stays as it is"
    )


def test_a_step_keeps_to_the_shares(start: Callable[..., RunningLearner], store: Store) -> None:
    learner = start(teaching={"exemplar_share": 0.4, "holdout_share": 0.3})
    store.pending.add(by("ann", digits(0, 90)))
    store.pending.add(by("bob", digits(0, 30, 90)))
    store.pending.add(by("ann", digits(1, 90)))
    learner.version(1)
    until(lambda: store.pending.total().examples == 0, "everything learned")
    exemplars, holdout = (
        Counter(names(store.memory.exemplars("digit 0"))),
        Counter(names(store.memory.holdout("digit 0"))),
    )
    assert exemplars == {"ann": 2, "bob": 2}
    assert 0 < holdout["ann"] <= 3
    assert 0 < holdout["bob"] <= 3
    assert Counter(names(store.memory.exemplars("digit 1"))) == {"ann": 2}
    assert Counter(names(store.memory.holdout("digit 1"))) == {"ann": 3}
