"""With approval asked for, a label that nothing is known of waits from its first example on for an operator."""

from __future__ import annotations

import pytest

from accrete_storage.config import TeachingConfig
from accrete_storage.errors import NotFound
from accrete_storage.examples.pending import Outcome
from accrete_storage.store import Store

from .conftest import Connect, assert_counters_exact, examples, lease, step


@pytest.fixture
def asking(connect: Connect) -> Store:
    return connect(teaching=TeachingConfig(approve_new_labels=True))


def awaiting(store: Store) -> list[str]:
    return sorted(label for label, entry in store.quarantine.entries().items() if entry.awaiting)


def test_a_new_label_waits_and_is_kept_and_one_that_is_known_does_not(asking: Store):
    assert asking.pending.add(examples("a", 3) + examples("b", 1)) == [Outcome.STORED] * 4
    assert awaiting(asking) == ["a", "b"]
    assert asking.quarantine.approve("a") == 3
    asking.pending.add(examples("a", 2, start=10))
    assert awaiting(asking) == ["b"], "what is approved stays so while there is something of it"
    asking.commit(step(asking, lease(asking), ["a"]))
    asking.pending.add(examples("a", 2, start=20))
    assert awaiting(asking) == ["b"]
    asking.control.forget_class("a")
    asking.pending.add(examples("a", 1, start=30))
    assert awaiting(asking) == ["a", "b"], "a class that is forgotten and taught again is a new one"
    assert_counters_exact(asking)


def test_failures_are_retried_and_new_labels_approved_and_not_the_other_way_round(asking: Store):
    asking.pending.add(examples("a", 3))
    with pytest.raises(NotFound, match="no such label set aside after failed steps: a"):
        asking.quarantine.retry("a")
    asking.quarantine.approve("a")
    asking.quarantine.add(lease(asking).epoch, {"a": 3}, {"reason": "it broke", "attempt": 3})
    with pytest.raises(NotFound, match="no such label awaiting approval: a"):
        asking.quarantine.approve("a")
    assert asking.quarantine.retry("a") == 3


def test_a_label_that_is_dropped_waits_again_when_it_comes_again(asking: Store):
    asking.pending.add(examples("a", 3))
    assert asking.quarantine.drop("a") == 3
    assert not asking.quarantine.entries()
    asking.pending.add(examples("a", 3))
    assert awaiting(asking) == ["a"]


def test_what_comes_while_a_label_is_dropped_is_not_approved_by_that(asking: Store, monkeypatch: pytest.MonkeyPatch):
    """At each moment between the reads and writes of the drop, as from a caller who never stops."""
    asking.pending.add(examples("a", 3))
    call, sent = asking._database.call, [100]

    def call_between(script: str, *arguments: object) -> object:
        if script in ("drop", "release"):
            sent[0] += 1
            call_now = asking._database.call
            monkeypatch.setattr(asking._database, "call", call)
            asking.pending.add(examples("a", 1, start=sent[0]))
            monkeypatch.setattr(asking._database, "call", call_now)
        return call(script, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(asking._database, "call", call_between)
    assert asking.quarantine.drop("a") >= 3
    assert sent[0] >= 102
    assert asking.pending.counts()["a"].examples >= 1
    assert awaiting(asking) == ["a"]


def test_nothing_waits_unless_it_is_asked_for(store: Store):
    store.pending.add(examples("a", 3))
    assert not store.quarantine.entries()
