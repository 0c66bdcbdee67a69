"""What a step would learn is reviewed before, by the live model among others, and learned once it is released."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from accrete_storage.examples.example import Example
from accrete_storage.examples.review import Selection
from accrete_storage.store import Store
from benchmarks.waiting import until
from tests.learner_service.helpers import RunningLearner, digits

Start = Callable[..., RunningLearner]


def reasons(store: Store) -> dict[tuple[str, str], int]:
    return {(group.label, group.reason): group.examples for group in store.review.groups()}


def relabelled(taught: list[Example], label: str) -> list[Example]:
    return [replace(one, label=label, id=f"wrong-{one.id}") for one in taught]


def test_what_contradicts_a_sure_model_is_set_aside_and_learned_when_it_is_released(start: Start, store: Store) -> None:
    learner = start(teaching={"review_confidence": 0.6}, training={"base_epochs": 30, "epochs": 1})
    store.pending.add(digits(0, 60))
    store.pending.add(digits(1, 60))
    assert learner.version(1).accuracy["all"] > 0.9

    store.pending.add(relabelled(digits(1, 40, 60), "digit 0"))
    store.pending.add(digits(0, 40, 60))
    store.control.request_step()
    learner.version(2)
    found = reasons(store)
    assert set(found) == {("digit 0", "contradiction")}
    assert found["digit 0", "contradiction"] >= 30
    assert all(name.startswith("wrong-1-") for group in store.review.groups() for name in group.ids)
    assert store.pending.total().examples == 0

    released = store.review.release(Selection(reason="contradiction"))
    store.control.request_step()
    assert learner.version(3).consumed == {"digit 0": released}, "what was released is not set aside again"
    assert reasons(store) == {}


def test_a_flood_is_set_aside_before_it_makes_a_class(start: Start, store: Store) -> None:
    learner = start(teaching={"review_duplicates": 5})
    (one, *_) = digits(2, 1)
    store.pending.add([replace(one, id=f"copy-{n}", metadata={"n": str(n)}) for n in range(40)])
    store.pending.add(digits(0, 30) + digits(1, 30))
    until(lambda: reasons(store).get(("digit 2", "duplicates")) == 35, lambda: f"the flood\n{learner.log()}")
    assert learner.version(1).labels == ["digit 0", "digit 1"], "what is left of it is too little for a step"
    assert store.pending.counts()["digit 2"].examples == 5
    told = [event.body for event in store.events.read("0", count=1000) if event.kind == "reviewed"]
    assert {"label": "digit 2", "examples": 35, "reasons": ["duplicates"]} in told


def test_a_principals_share_of_a_known_class_in_training(start: Start, store: Store) -> None:
    learner = start(teaching={"training_share": 0.5}, trigger={"min_examples": 2})
    for label in (0, 1):
        store.pending.add([replace(one, principal="ann") for one in digits(label, 30)])
    learner.version(1)
    assert reasons(store) == {}, "a class that one principal alone teaches is its own"
    kept = len(store.memory.exemplars("digit 0"))
    store.pending.add([replace(one, principal="bob") for one in digits(0, 60, 30)])
    store.control.request_step()
    record = learner.version(2)
    (group,) = store.review.groups()
    assert (group.label, group.principal, group.reason) == ("digit 0", "bob", "share")
    holdout = sum(record.consumed.values()) - kept
    assert group.examples == 60 - kept - holdout
    assert kept == 5
