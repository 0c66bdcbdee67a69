"""Examples in review are neither learned nor lost, count for those who taught them, and end as an operator says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from accrete_storage.config import TeachingConfig
from accrete_storage.errors import Fenced, InputsChanged, NotFound, PendingFull, QuotaExceeded
from accrete_storage.examples.example import Example
from accrete_storage.examples.pending import Outcome
from accrete_storage.examples.review import Selection
from accrete_storage.store import Store

from .conftest import Connect, assert_counters_exact, examples, ids, lease, step


def by(principal: str, taught: list[Example]) -> list[Example]:
    return [replace(one, principal=principal) for one in taught]


def set_aside(store: Store, epoch: int, label: str, *numbers: int, reason: str = "burst") -> int:
    names = {f"{label}-{number}" for number in numbers}
    chosen = [(entry, reason) for entry in store.pending.read(label) if entry.example.id in names]
    return store.review.set_aside(epoch, label, chosen)


def pending_ids(store: Store, label: str) -> list[str]:
    return [entry.example.id for entry in store.pending.read(label)]


def test_what_is_set_aside_is_told_by_label_principal_and_reason_and_is_not_pending(store: Store):
    mine = lease(store)
    store.pending.add(by("ann", examples("a", 4)))
    store.pending.add(by("bob", examples("a", 2, start=4)) + by("bob", examples("b", 1)))
    assert set_aside(store, mine.epoch, "a", 0, 1, 5) == 3
    assert set_aside(store, mine.epoch, "a", 2, reason="share") == 1
    assert set_aside(store, mine.epoch, "b", 0) == 1
    groups = store.review.groups()
    assert [(group.label, group.principal, group.reason, group.ids) for group in groups] == [
        ("a", "ann", "burst", ("a-0", "a-1")),
        ("a", "ann", "share", ("a-2",)),
        ("a", "bob", "burst", ("a-5",)),
        ("b", "bob", "burst", ("b-0",)),
    ]
    assert pending_ids(store, "a") == ["a-3", "a-4"]
    assert store.pending.labels() == ["a"]
    assert_counters_exact(store)


def test_what_is_in_review_is_a_duplicate_when_it_is_sent_again_and_is_not_taken_for_learned(store: Store):
    mine = lease(store)
    store.pending.add(examples("a", 3))
    set_aside(store, mine.epoch, "a", 0)
    assert store.pending.add(examples("a", 1)) == [Outcome.DUPLICATE]
    assert store.commit(step(store, mine, ["a"]))
    places = store.pending.locate(["a-0", "a-1"])
    assert (places["a-0"].in_review, places["a-1"].in_review) == (True, False)


def test_what_is_released_is_learned_later_and_says_that_it_was_reviewed(store: Store):
    mine = lease(store)
    store.pending.add(by("ann", examples("a", 3)))
    set_aside(store, mine.epoch, "a", 0, 1)
    commit = step(store, mine, ["a"])
    store.commit(commit)
    assert store.review.release(Selection(label="a", principal="ann")) == 2
    place = store.pending.locate(["a-0"])["a-0"]
    assert not place.in_review
    assert place.position > commit.consumed["a"], "it is learned by no version before"
    assert sorted(pending_ids(store, "a")) == ["a-0", "a-1"]
    assert all(entry.reviewed and entry.example.principal == "ann" for entry in store.pending.read("a"))
    assert_counters_exact(store)
    store.commit(step(store, mine, ["a"]))
    assert sorted(ids(store.memory.exemplars("a"))) == ["a-0", "a-1"]
    assert_counters_exact(store)


def test_what_is_dropped_is_gone_and_may_be_sent_again(store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("accrete_storage.examples.review._AT_ONCE", 2)
    mine = lease(store)
    store.pending.add(examples("a", 5) + examples("b", 2))
    set_aside(store, mine.epoch, "a", 0, 1, 2)
    set_aside(store, mine.epoch, "b", 0, reason="share")
    assert store.review.drop(Selection(reason="burst")) == 3
    assert [group.label for group in store.review.groups()] == ["b"]
    with pytest.raises(NotFound, match="no such example in review: label 'a', reason 'burst'"):
        store.review.drop(Selection(label="a", reason="burst"))
    assert store.pending.add(examples("a", 1)) == [Outcome.STORED]
    assert_counters_exact(store)


def test_deleting_and_forgetting_reach_what_is_in_review(store: Store):
    mine = lease(store)
    store.pending.add(by("ann", examples("a", 3)))
    set_aside(store, mine.epoch, "a", 0, 1)
    assert store.control.delete_examples(["a-0"]).deleted == 1
    assert store.review.total() == 1
    assert_counters_exact(store)
    assert store.control.forget_class("a").pending == 2
    assert (store.review.groups(), store.review.total()) == ([], 0)
    assert_counters_exact(store)
    left = store._database.client.keys(f"{store._keys.beginning}review*")
    assert left == []
    assert store.pending.add(examples("a", 2)) == [Outcome.STORED] * 2


def test_what_is_in_review_fills_the_budgets_and_the_principals_own_quota(connect: Connect):
    store = connect(pending_max_examples=4)
    mine = lease(store)
    store.pending.add(examples("a", 4))
    set_aside(store, mine.epoch, "a", 0, 1)
    with pytest.raises(PendingFull):
        store.pending.add(examples("b", 1))
    owing = connect(teaching=TeachingConfig(pending_bytes=store.pending.total().bytes * 2))
    with pytest.raises(QuotaExceeded):
        owing.pending.add(examples("b", 1))


def test_a_learner_without_the_lease_sets_nothing_aside_and_a_step_that_has_read_it_does_not_commit(store: Store):
    mine = lease(store)
    store.pending.add(examples("a", 3))
    with pytest.raises(Fenced):
        set_aside(store, mine.epoch - 1, "a", 0)
    assert store.review.total() == 0
    commit = step(store, mine, ["a"])
    set_aside(store, mine.epoch, "a", 0)
    with pytest.raises(InputsChanged):
        store.commit(commit)
