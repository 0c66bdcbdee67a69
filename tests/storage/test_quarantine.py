"""Examples that are set aside: an operator has them tried again, or drops them."""

from __future__ import annotations

import pytest

from accrete_storage.errors import CorruptRecord, InputsChanged, NotFound
from accrete_storage.examples.pending import Outcome
from accrete_storage.store import Store
from accrete_storage.versions.commit import Lease

from .conftest import assert_counters_exact, examples, ids, lease, step


def set_aside(store: Store, mine: Lease, **counts: int) -> None:
    store.quarantine.add(mine.epoch, counts, {"reason": "it broke", "attempt": 3})


def test_what_is_set_aside_says_why_and_starts_steps_again_when_an_operator_says_so(store: Store):
    store.pending.add(examples("a", 4) + examples("b", 2))
    set_aside(store, lease(store), a=4, b=2)
    assert (store.quarantine.entries()["a"].attempts, store.quarantine.entries()["a"].reason) == (3, "it broke")
    assert store.quarantine.retry("a") == 4
    assert list(store.quarantine.entries()) == ["b"]
    assert store.pending.total().examples == 6


def test_what_cannot_be_retried_or_approved_says_what_can_be_done_instead(store: Store):
    mine = lease(store)
    store.pending.add(examples("failed", 2))
    set_aside(store, mine, failed=2)
    with pytest.raises(NotFound, match="failed; it is set aside: retry failed"):
        store.quarantine.approve("failed")
    store._database.client.hset(
        store._keys.quarantine, "new", '{"count": 1, "attempts": 0, "reason": "", "awaiting": true}'
    )
    with pytest.raises(NotFound, match="new; it awaits approval: approve new"):
        store.quarantine.retry("new")
    with pytest.raises(NotFound, match="unheard$"):
        store.quarantine.retry("unheard")


def test_what_is_dropped_is_gone_and_may_be_sent_again(store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("accrete_storage.examples.quarantine._AT_ONCE", 2)
    mine = lease(store)
    store.pending.add(examples("a", 2))
    store.commit(step(store, mine, ["a"]))
    store.pending.add(examples("a", 5, start=10) + examples("b", 2))
    set_aside(store, mine, a=5, b=2)
    assert store.quarantine.drop("a") == 5
    assert list(store.quarantine.entries()) == ["b"]
    assert list(store.pending.counts()) == ["b"]
    assert ids(store.memory.exemplars("a")) == ["a-0", "a-1"], "what is learned stays"
    assert_counters_exact(store)
    assert store.pending.add(examples("a", 2) + examples("a", 1, start=10)) == [
        Outcome.DUPLICATE,
        Outcome.DUPLICATE,
        Outcome.STORED,
    ]


def test_an_example_that_cannot_be_read_can_be_dropped(store: Store):
    mine = lease(store)
    store.pending.add(examples("a", 2))
    position = store.pending.read("a")[0].position
    stream = store._keys.pending("a")
    store._database.client.xdel(stream, position)
    store._database.client.xadd(stream, {"e": b"no example", "h": "0"})
    with pytest.raises(CorruptRecord):
        store.pending.read("a")
    set_aside(store, mine, a=2)
    assert store.quarantine.drop("a") == 2
    assert store.pending.total().examples == 0


def test_a_step_that_has_read_what_is_dropped_does_not_commit(store: Store):
    mine = lease(store)
    store.pending.add(examples("a", 3))
    set_aside(store, mine, a=3)
    commit = step(store, mine, ["a"])
    store.quarantine.drop("a")
    with pytest.raises(InputsChanged):
        store.commit(commit)


def test_only_what_is_set_aside_is_tried_again_or_dropped(store: Store):
    store.pending.add(examples("a", 3))
    with pytest.raises(NotFound, match="no such label set aside after failed steps: a"):
        store.quarantine.retry("a")
    with pytest.raises(NotFound, match="no such label awaiting approval: a"):
        store.quarantine.approve("a")
    with pytest.raises(NotFound, match="no such label set aside: a"):
        store.quarantine.drop("a")
    assert store.pending.total().examples == 3
