"""A step ends in one write, by the one learner that may, or not at all."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from accrete_storage.errors import Fenced, InputsChanged, NotFound, VersionUnusable
from accrete_storage.examples.ids import position_key
from accrete_storage.store import Store
from accrete_storage.versions.commit import Commit, Reject
from accrete_storage.versions.record import VersionRecord
from accrete_storage.versions.registry import Registry

from .conftest import Connect, assert_counters_exact, examples, ids, lease, record, step


def snapshot(store: Store) -> object:
    """Everything that a commit may change, for comparison."""
    labels = store.pending.labels()
    return (
        {label: [entry.position for entry in store.pending.read(label)] for label in labels},
        {label: ids(store.memory.exemplars(label)) for label in store.memory.labels()},
        {label: ids(store.memory.holdout(label)) for label in store.memory.labels()},
        store.registry.versions(),
        store.registry.state().version,
        store.pending.total(),
        store.memory.exemplar_bytes(),
    )


def test_a_commit_moves_consumes_activates_and_tells(connect: Connect):
    store = connect(share=0.3)
    mine = lease(store)
    store.pending.add(examples("a", 30) + examples("b", 5))
    read = store.pending.read("a")
    commit = step(store, mine, ["a"])
    store.pending.add(examples("a", 3, start=100))
    assert store.commit(commit)
    assert [entry.example.id for entry in store.pending.read("a")] == ["a-100", "a-101", "a-102"]
    assert store.pending.counts()["b"].examples == 5
    assert ids(store.memory.exemplars("a")) == [entry.example.id for entry in read if not entry.holdout][:2]
    assert ids(store.memory.holdout("a")) == [entry.example.id for entry in read if entry.holdout]
    assert store.registry.state().version == 1
    assert [event.kind for event in store.events.read("0")] == ["committed", "activated"]
    assert_counters_exact(store)


def test_committing_the_same_step_again_changes_nothing(store: Store):
    mine = lease(store)
    store.pending.add(examples("a", 4))
    commit = step(store, mine, ["a"])
    assert store.commit(commit)
    store.pending.add(examples("a", 4, start=10))
    before = snapshot(store)
    assert not store.commit(commit)
    assert snapshot(store) == before


def test_a_learner_whose_epoch_is_over_commits_nothing(store: Store):
    stalled = lease(store, "stalled", ttl_s=0.05)
    store.pending.add(examples("a", 4))
    commit = step(store, stalled, ["a"])
    time.sleep(0.1)
    assert lease(store, "other").epoch > stalled.epoch
    before = snapshot(store)
    with pytest.raises(Fenced):
        store.commit(commit)
    with pytest.raises(Fenced):
        store.reject(Reject(epoch=stalled.epoch, step_id="x", record=commit.record, quarantined={"a": 4}))
    with pytest.raises(Fenced):
        store.quarantine.add(stalled.epoch, {"a": 4}, {"reason": "r", "attempt": 3})
    with pytest.raises(Fenced):
        stalled.renew()
    assert not store.control.set_phase(stalled.epoch, "training", "")
    assert snapshot(store) == before
    assert store.quarantine.entries() == {}


def test_a_number_is_for_one_learner_alone(store: Store):
    first = lease(store, "first", ttl_s=0.05)
    assert (store.registry.reserve(first.epoch), store.registry.reserve(first.epoch)) == (1, 1)
    time.sleep(0.1)
    second = lease(store, "second")
    assert store.registry.greatest_number(second.epoch) == 1
    assert store.registry.reserve(second.epoch) == 2
    store.pending.add(examples("a", 3))
    store.commit(step(store, second, ["a"], record=record(store, ["a"], {}, version=2)))
    assert store.registry.reserve(second.epoch) == store.registry.greatest_number(second.epoch) == 3
    for act in (store.registry.reserve, store.registry.greatest_number):
        with pytest.raises(Fenced):
            act(first.epoch)


def test_one_learner_at_a_time_holds_the_lease(store: Store):
    first = lease(store, "first")
    assert store.acquire_lease("second") is None
    assert store.lease_holder() == "first"
    first.renew()
    first.release()
    assert store.lease_holder() is None
    assert lease(store, "second").epoch == first.epoch + 1


def test_a_lease_that_ran_out_untaken_can_be_renewed(store: Store):
    mine = lease(store, ttl_s=0.05)
    time.sleep(0.1)
    mine.renew()
    assert store.lease_holder() == "me"


@pytest.mark.parametrize("change", ["delete", "forget"])
def test_what_is_taken_out_during_a_step_stops_its_commit(store: Store, change: str):
    mine = lease(store)
    store.pending.add(examples("a", 4) + examples("b", 4))
    commit = step(store, mine, ["a", "b"])
    if change == "delete":
        store.control.delete_examples(["b-1"])
    else:
        store.control.forget_class("b")
    before = snapshot(store)
    with pytest.raises(InputsChanged):
        store.commit(commit)
    assert snapshot(store) == before


def test_a_commit_without_its_staged_data_changes_nothing(store: Store, connect: Connect):
    mine = lease(store)
    store.pending.add(examples("a", 4))
    commit = step(store, mine, ["a"])
    store._database.client.delete(store._keys.staged(commit.step_id, "exemplars", "a"))
    before = snapshot(store)
    with pytest.raises(InputsChanged):
        store.commit(commit)
    assert snapshot(store) == before


def test_old_classes_shrink_to_the_quota_from_the_end(store: Store):
    mine = lease(store)
    store.pending.add(examples("a", 6))
    store.commit(step(store, mine, ["a"], per_class=2))
    assert ids(store.memory.exemplars("a")) == ["a-0", "a-1"]
    store.pending.add(examples("b", 6))
    store.commit(step(store, mine, ["b"], known=["a"], per_class=1))
    assert ids(store.memory.exemplars("a")) == ["a-0"]
    assert ids(store.memory.exemplars("b")) == ["b-0"]
    store.pending.add(examples("c", 6))
    store.commit(step(store, mine, ["c"], known=["a", "b"], per_class=0))
    assert [store.memory.exemplars(label) for label in "abc"] == [[], [], []]
    assert_counters_exact(store)


def test_what_is_kept_does_not_expire_with_what_was_staged(store: Store):
    mine = lease(store)
    store.pending.add(examples("a", 6))
    store.commit(step(store, mine, ["a"]))
    assert store._database.client.ttl(store._keys.exemplars("a")) == -1


def test_a_class_that_the_new_version_lacks_is_dropped(store: Store):
    mine = lease(store)
    store.pending.add(examples("a", 4))
    store.commit(step(store, mine, ["a"]))
    store.pending.add(examples("b", 4))
    store.commit(step(store, mine, ["b"]))
    assert list(store.memory.counts()) == ["b"]
    assert_counters_exact(store)


def test_a_rejected_step_keeps_its_examples_set_aside(store: Store):
    mine = lease(store)
    store.pending.add(examples("a", 4))
    rejected = replace(record(store, ["a"], {}), state="rejected", reason="too bad")
    reject = Reject(epoch=mine.epoch, step_id="r1", record=rejected, quarantined={"a": 4}, event={"version": 1})
    assert store.reject(reject)
    assert not store.reject(reject)
    assert store.pending.counts()["a"].examples == 4
    assert store.quarantine.entries()["a"].count == 4
    assert store.quarantine.entries()["a"].reason == "too bad"
    assert store.registry.state().version == 0
    assert store.registry.latest_ready() is None
    assert store.registry.next_version() == 2
    store.commit(step(store, mine, ["a"]))
    assert store.quarantine.entries() == {}, "what a step learned is not set aside any more"


def two_versions(store: Store) -> None:
    mine = lease(store)
    for label in "ab":
        store.pending.add(examples(label, 3))
        store.commit(step(store, mine, [label], known=["a"] if label == "b" else []))


def test_a_version_is_pinned_and_later_ones_wait(store: Store):
    two_versions(store)
    store.registry.activate(1)
    state = store.registry.state()
    assert (state.version, state.pinned) == (1, True)
    store.pending.add(examples("c", 3))
    epoch = int(store._database.client.hget(store._keys.state, "epoch"))
    mine = type("Held", (), {"epoch": epoch})()
    store.commit(step(store, mine, ["c"], known=["a", "b"]))
    assert store.registry.state().version == 1
    latest = store.registry.latest_ready()
    assert latest is not None
    assert latest.version == 3
    assert store.registry.unpin() == 3
    assert store.registry.state().version == 3


def test_only_a_ready_version_can_be_activated(store: Store):
    two_versions(store)
    store.registry.mark_retired(1)
    with pytest.raises(VersionUnusable, match="retired"):
        store.registry.activate(1)
    with pytest.raises(NotFound):
        store.registry.activate(9)
    with pytest.raises(NotFound):
        store.registry.activate(0)
    with pytest.raises(VersionUnusable):
        store.registry.mark_retired(2)
    assert store.registry.state().version == 2


def test_learned_is_told_by_positions(store: Store):
    mine = lease(store)
    store.pending.add(examples("a", 3))
    commit = step(store, mine, ["a"])
    store.pending.add(examples("a", 1, start=50))
    store.commit(commit)
    learned = store.registry.version(1).learned
    located = store.pending.locate(["a-2", "a-50"])
    assert position_key(located["a-2"].position) <= position_key(learned["a"])
    assert position_key(located["a-50"].position) > position_key(learned["a"])


def test_a_step_in_a_commit_is_recorded_with_its_id(store: Store):
    mine = lease(store)
    store.pending.add(examples("a", 3))
    commit: Commit = step(store, mine, ["a"])
    store.commit(commit)
    assert store.registry.version(1).step_id == commit.step_id


def test_the_newest_record_is_read_again_only_once_its_number_or_the_revision_is_another(store: Store, monkeypatch):
    mine = lease(store)
    store.pending.add(examples("a", 4))
    store.commit(step(store, mine, ["a"]))
    reads: list[int] = []
    read = Registry.version

    def counted(registry: Registry, number: int) -> VersionRecord:
        reads.append(number)
        return read(registry, number)

    monkeypatch.setattr(Registry, "version", counted)
    assert [store.registry.latest_ready(), store.registry.latest_ready()] == [store.registry.version(1)] * 2
    assert reads == [1, 1]  # the second is this test's own
    store.renaming.rename("a", "b")
    renamed = store.registry.latest_ready()
    assert renamed is not None
    assert renamed.labels == ["b"]
    store.pending.add(examples("c", 4))
    store.commit(step(store, mine, ["c"]))
    newest = store.registry.latest_ready()
    assert newest is not None
    assert newest.version == 2
    assert reads == [1, 1, 1, 2]
