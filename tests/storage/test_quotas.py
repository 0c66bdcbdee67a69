"""What one principal may add: shared by all servers on a store, counted with the write, and once for each example."""

from __future__ import annotations

from dataclasses import replace

import pytest

from accrete_storage.config import TeachingConfig
from accrete_storage.errors import QuotaExceeded
from accrete_storage.examples.example import Example, pack, unpack
from accrete_storage.examples.pending import Outcome
from accrete_storage.store import Store

from .conftest import Connect, assert_counters_exact, examples, lease, step


def by(principal: str, taught: list[Example]) -> list[Example]:
    return [replace(one, principal=principal) for one in taught]


def refused(store: Store, taught: list[Example]) -> QuotaExceeded:
    with pytest.raises(QuotaExceeded) as problem:
        store.pending.add(taught)
    return problem.value


def expire(store: Store, principal: str, what: str) -> None:
    """The window's end, now."""
    assert store._database.client.pexpire(store._keys.quota(principal, what), 0)


def test_an_example_says_who_taught_it_wherever_it_is_kept(connect: Connect):
    store = connect(share=0.5)
    store.pending.add(by("ann", examples("a", 12)))
    assert {entry.example.principal for entry in store.pending.read("a")} == {"ann"}
    store.commit(step(store, lease(store), ["a"]))
    kept = store.memory.exemplars("a") + store.memory.holdout("a")
    assert [one.principal for one in kept] == ["ann"] * len(kept)
    assert store.memory.holdout("a")


def test_records_of_earlier_releases_have_no_principal_and_are_read():
    (one,) = examples("a", 1)
    assert unpack(pack(one)).principal == ""
    assert pack(one)[:1] == b"\x96", "six fields, as ever"


def test_examples_a_minute_are_counted_over_all_servers_of_a_store_and_for_each_principal(connect: Connect):
    quota = TeachingConfig(examples_per_minute=5)
    one, other = connect(teaching=quota), connect(teaching=quota)
    one.pending.add(by("ann", examples("a", 3)))
    problem = refused(other, by("ann", examples("a", 3, start=10)))
    assert (problem.limit, problem.value) == ("examples_per_minute", 5)
    assert problem.retry_after_s is not None
    assert 0 < problem.retry_after_s <= 60
    other.pending.add(by("ann", examples("b", 2)))
    other.pending.add(by("bob", examples("b", 5, start=10)))
    refused(one, by("ann", examples("a", 1, start=20)))
    assert one.pending.total().examples == 10, "what is refused is not stored, in no part"
    expire(one, "ann", "examples")
    one.pending.add(by("ann", examples("a", 5, start=20)))
    assert_counters_exact(one)


def test_what_was_acknowledged_before_counts_once(connect: Connect):
    store = connect(teaching=TeachingConfig(examples_per_minute=4, new_labels_per_day=1))
    store.pending.add(examples("a", 3))
    assert store.pending.add(examples("a", 3)) == [Outcome.DUPLICATE] * 3
    assert store.pending.add(examples("a", 4)) == [Outcome.DUPLICATE] * 3 + [Outcome.STORED]
    assert store.pending.add(examples("a", 4)) == [Outcome.DUPLICATE] * 4, "with nothing left of the quota"
    refused(store, examples("a", 5))


def test_a_batch_that_never_fits_says_so(connect: Connect):
    store = connect(teaching=TeachingConfig(examples_per_minute=2))
    assert refused(store, examples("a", 3)).retry_after_s is None
    store = connect(teaching=TeachingConfig(pending_bytes=50))
    assert refused(store, examples("a", 3)).retry_after_s is None


def test_new_labels_a_day_are_those_that_nothing_is_known_of(connect: Connect):
    store = connect(teaching=TeachingConfig(new_labels_per_day=2))
    store.pending.add(by("ann", examples("a", 3) + examples("b", 1)))
    store.pending.add(by("ann", examples("a", 3, start=10)))
    problem = refused(store, by("ann", examples("a", 1, start=20) + examples("c", 1)))
    assert (problem.limit, problem.value) == ("new_labels_per_day", 2)
    store.pending.add(by("bob", examples("c", 1)))
    store.pending.add(by("ann", examples("c", 1, start=10)))

    store.commit(step(store, lease(store), ["a", "b"], per_class=0))
    assert store.memory.labels() == ["a", "b"]
    store._database.client.delete(store._keys.kept)
    store.pending.add(by("ann", examples("a", 1, start=30)))
    store.control.forget_class("a")
    refused(store, by("ann", examples("a", 1, start=40)))
    expire(store, "ann", "labels")
    store.pending.add(by("ann", examples("a", 1, start=40)))


def test_pending_bytes_are_given_back_by_learning_dropping_deleting_and_forgetting(connect: Connect):
    size = len(pack(by("ann", examples("a", 1, start=10))[0]))
    store = connect(teaching=TeachingConfig(pending_bytes=4 * size))
    mine = lease(store)

    def is_full() -> bool:
        problem = refused(store, by("ann", examples("z", 1, start=10)))
        return problem.limit == "pending_bytes" and problem.retry_after_s is not None

    store.pending.add(by("bob", examples("a", 4, start=20)))
    store.pending.add(by("ann", examples("a", 4, start=30)))
    assert is_full()
    store.commit(step(store, mine, ["a"]))
    assert_counters_exact(store)
    store.pending.add(by("ann", examples("a", 4, start=40)))
    assert is_full()
    store.control.delete_examples(["a-40"])
    assert_counters_exact(store)
    store.pending.add(by("ann", examples("b", 1, start=10)))
    assert is_full()
    store.quarantine.add(mine.epoch, {"a": 3}, {"reason": "it broke", "attempt": 3})
    store.quarantine.drop("a")
    assert_counters_exact(store)
    store.pending.add(by("ann", examples("c", 3, start=10)))
    assert is_full()
    store.control.forget_class("c")
    assert_counters_exact(store)
    store.pending.add(by("ann", examples("c", 3, start=10)))
    assert is_full()


def test_a_batch_is_of_one_principal(store: Store):
    with pytest.raises(ValueError, match="one principal"):
        store.pending.add(by("ann", examples("a", 1)) + by("bob", examples("b", 1)))


def test_nothing_is_counted_in_windows_without_quotas(store: Store):
    store.pending.add(examples("a", 3))
    assert not store._database.client.exists(store._keys.quota("", "examples"), store._keys.quota("", "labels"))
