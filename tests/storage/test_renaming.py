"""A class is renamed, or merged into another, wherever it is named, and what was acknowledged of it stays exact."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from accrete_kit.failpoints import VARIABLE
from accrete_storage.config import TeachingConfig
from accrete_storage.errors import InputsChanged, LabelInUse, NotFound
from accrete_storage.examples.example import Example
from accrete_storage.examples.ids import position_key
from accrete_storage.examples.pending import Outcome
from accrete_storage.examples.review import Selection
from accrete_storage.store import Store
from accrete_storage.versions.prototypes import Prototype
from accrete_storage.versions.record import VersionRecord
from accrete_storage.versions.relabelled import Relabelling
from benchmarks.bucket import open_in

from .conftest import Connect, assert_counters_exact, example, examples, ids, lease, step


def learned(store: Store, example_id: str) -> bool:
    """What a server that serves the active version says of an example."""
    location = store.pending.locate([example_id])[example_id]
    reached = store.registry.version(store.registry.state().version).learned.get(location.label)
    return reached is not None and position_key(reached) >= position_key(location.position)


def test_everything_of_a_class_is_found_under_its_new_label(connect: Connect):
    store = connect(share=0.3)
    mine = lease(store)
    store.pending.add(examples("a", 20) + examples("z", 3))
    store.commit(step(store, mine, ["a", "z"], features={"a": {"a-1": b"abcd"}, "z": {"z-1": b"abcd"}}))
    store.prototypes.put(1, {"a": Prototype(vector=np.ones(2), count=3)}, 0.5)
    store.pending.add(examples("a", 6, start=100))
    entries = store.pending.read("a")
    store.review.set_aside(mine.epoch, "a", [(entry, "burst") for entry in entries[:2]])
    store.quarantine.add(mine.epoch, {"a": 4}, {"reason": "why"})
    exemplars, holdout = ids(store.memory.exemplars("a")), ids(store.memory.holdout("a"))
    before, place = store.registry.version(1), store.pending.locate(["a-105"])["a-105"]
    counts = store.pending.counts()["a"]

    result = store.renaming.rename("a", "heron")

    assert result.examples == 4 + 2 + len(exemplars) + len(holdout)
    assert result.revision == store.registry.state().revision == store.registry.state().renamed
    assert store.pending.labels() == ["heron"]
    assert store.pending.counts() == {"heron": counts}
    assert [entry.example.label for entry in store.pending.read("heron")] == ["heron"] * 4
    assert (ids(store.memory.exemplars("heron")), ids(store.memory.holdout("heron"))) == (exemplars, holdout)
    assert {one.label for one in store.memory.exemplars("heron") + store.memory.holdout("heron")} == {"heron"}
    assert store.memory.labels() == ["heron", "z"]
    assert (store.features.ids("heron"), store.features.ids("a")) == ({"a-1"}, set())
    assert list(store.prototypes.all(1).by_label) == ["heron"]
    assert list(store.quarantine.entries()) == ["heron"]
    assert [(group.label, group.examples) for group in store.review.groups()] == [("heron", 2)]
    after = store.registry.version(1)
    assert after.labels == ["heron", "z"]
    assert after.new_labels == ["heron", "z"]
    assert after.learned == {"heron": before.learned["a"], "z": before.learned["z"]}
    assert after.since == {"heron": 1, "z": 1}
    now = store.pending.locate(["a-105"])["a-105"]
    assert (now.label, now.position) == ("heron", place.position)
    assert learned(store, exemplars[0])
    assert not learned(store, "a-105")
    assert store.events.read("0", count=1000)[-1].body == {"label": "a", "new_label": "heron", "merged": False}
    assert_counters_exact(store)
    assert store.review.release(Selection(label="heron")) == 2
    assert store.pending.counts()["heron"].examples == 6
    store.commit(step(store, mine, ["heron"], known=["z"]))
    assert learned(store, "a-105")
    assert_counters_exact(store)


def test_an_example_is_stored_once_whichever_label_of_its_class_it_comes_under(store: Store):
    own = example("a", 1)
    store.pending.add([own])
    store.renaming.rename("a", "b")
    store.renaming.rename("b", "c")
    again = Example(id=own.id, label="c", content=own.content)
    changed = Example(id=own.id, label="c", content=np.full((2, 2, 1), 77, np.uint8))
    assert store.pending.add([own, again, changed]) == [Outcome.DUPLICATE, Outcome.EARLIER, Outcome.CONFLICT]
    assert store.pending.counts()["c"].examples == 1
    store.pending.add([other := example("a", 2)])
    assert store.pending.add([replace(other, label="c")]) == [Outcome.CONFLICT], "a is another class by now"
    store.control.forget_class("a")
    store.renaming.rename("c", "a")
    assert store.pending.add([own]) == [Outcome.DUPLICATE]


def test_two_classes_become_one_wherever_they_are_kept(connect: Connect):
    store = connect(share=0.3)
    mine = lease(store)
    store.pending.add(examples("b", 8))
    store.commit(step(store, mine, ["b"], features={"b": {"b-1": b"abcd", "b-2": b"abcd"}}))
    store.pending.add(examples("a", 8))
    store.commit(step(store, mine, ["a"], known=["b"], features={"a": {"a-1": b"efgh"}}))
    store.pending.add(examples("a", 3, start=100))
    store.pending.add(examples("b", 3, start=100))
    time.sleep(0.005)
    store.pending.add(examples("a", 3, start=200))
    for label in "ab":
        store.review.set_aside(mine.epoch, label, [(store.pending.read(label)[0], "burst")])
    kept = {label: ids(store.memory.exemplars(label)) for label in "ab"}
    holdout = ids(store.memory.holdout("b")) + ids(store.memory.holdout("a"))
    pending = {label: [entry.example.id for entry in store.pending.read(label)] for label in "ab"}
    positions = {entry.example.id: entry.position for entry in store.pending.read("a")}
    before = store.registry.version(2)

    result = store.renaming.merge("a", "b")

    assert result.examples == 6 + len(kept["a"]) + len(ids(store.memory.holdout("a"))) + sum(
        "a-" in name for name in holdout
    )
    assert store.memory.labels() == store.pending.labels() == ["b"]
    entries = store.pending.read("b")
    assert sorted(entry.example.id for entry in entries) == sorted(pending["a"] + pending["b"])
    assert [position_key(entry.position) for entry in entries] == sorted(position_key(e.position) for e in entries)
    assert positions["a-200"] in [entry.position for entry in entries], "it is as old as before"
    assert ids(store.memory.exemplars("b")) == [kept["b"][0], kept["a"][0], kept["b"][1], kept["a"][1]]
    assert ids(store.memory.holdout("b")) == holdout
    assert store.features.ids("b") == {"a-1", "b-1", "b-2"}
    assert [(group.label, group.examples) for group in store.review.groups()] == [("b", 2)]
    after = store.registry.version(2)
    assert after.labels == ["b", "b"]
    assert (after.classes, after.since) == (("b",), {"b": 1})
    assert after.learned == {"b": before.learned["b"]}
    assert store.registry.version(1).labels == ["b"]
    assert learned(store, "a-1")
    assert learned(store, "b-1")
    assert not learned(store, "a-101")
    assert not learned(store, "b-101")
    assert_counters_exact(store)
    assert store.control.delete_examples(["a-101", "a-1", "a-100"]).deleted == 3
    store.review.release(Selection(label="b"))
    assert_counters_exact(store)
    store.commit(step(store, mine, ["b"], known=[]))
    assert learned(store, "a-200")
    assert learned(store, "b-100")
    assert store.pending.total().examples == 0


def test_a_learned_class_that_becomes_part_of_a_new_one_is_learned(store: Store):
    mine = lease(store)
    store.pending.add(examples("b", 3))
    store.pending.add(examples("a", 3))
    store.commit(step(store, mine, ["a"]))
    store.renaming.merge("a", "b")
    assert store.registry.version(1).labels == ["b"]
    assert learned(store, "a-1")
    assert not learned(store, "b-1")
    store.renaming.rename("b", "c")
    assert learned(store, "a-1")
    assert not learned(store, "b-1")
    store.commit(step(store, mine, ["c"]))
    assert learned(store, "b-1")


def test_the_old_label_may_be_taught_again_as_another_class(store: Store):
    mine = lease(store)
    store.pending.add(examples("a", 3))
    store.commit(step(store, mine, ["a"]))
    store.renaming.rename("a", "b")
    assert store.pending.add(examples("a", 4)) == [Outcome.DUPLICATE] * 3 + [Outcome.STORED], (
        "sent again by who heard no answer"
    )
    store.pending.add(examples("a", 3, start=10))
    assert store.pending.locate(["a-0"])["a-0"].label == "b"
    assert store.pending.locate(["a-10"])["a-10"].label == "a"
    store.commit(step(store, mine, ["a"], known=["b"]))
    store.control.forget_class("b")
    assert store.pending.locate(["a-0", "a-10"]).keys() == {"a-10"}
    assert store.registry.version(2).kept_labels(store.registry.forgotten()) == ("a",)
    assert store.pending.add([example("a", 0)]) == [Outcome.STORED], "nothing of it is kept"
    store.renaming.rename("a", "b")
    assert store.pending.locate(["a-0", "a-10"]).keys() == {"a-0", "a-10"}
    assert store.registry.version(2).row_labels(store.registry.forgotten()) == ("", "b"), "what was b stays forgotten"
    assert store.registry.version(1).row_labels(store.registry.forgotten()) == ("",)
    with pytest.raises(NotFound):
        store.renaming.rename("", "c")
    assert_counters_exact(store)


def test_a_class_of_which_an_earlier_one_was_forgotten_keeps_its_own_rows_alone(store: Store):
    mine = lease(store)
    for label in "ab":
        store.pending.add(examples(label, 3))
    store.commit(step(store, mine, ["a", "b"]))
    store.control.forget_class("b")
    store.pending.add(examples("b", 3))
    store.commit(step(store, mine, ["b"], known=["a"]))
    store.renaming.merge("a", "b")
    forgotten = store.registry.forgotten()
    assert store.registry.version(1).row_labels(forgotten) == ("b", "")
    assert store.registry.version(2).row_labels(forgotten) == ("b", "b")


def test_rows_of_an_earlier_class_of_the_same_label_stay_forgotten(store: Store):
    mine = lease(store)
    for _ in range(2):
        store.pending.add(examples("a", 3))
        store.commit(step(store, mine, ["a"]))
        if store.registry.state().version == 1:
            store.control.forget_class("a")
    store.renaming.rename("a", "b")
    forgotten = store.registry.forgotten()
    assert [one.row_labels(forgotten) for one in store.registry.versions()] == [("",), ("b",)]


def test_a_forgotten_class_is_renamed_and_stays_forgotten(store: Store):
    mine = lease(store)
    store.pending.add(examples("a", 3) + examples("z", 3))
    store.commit(step(store, mine, ["a", "z"]))
    store.control.forget_class("a")
    assert store.renaming.rename("a", "b").examples == 0
    record, forgotten = store.registry.version(1), store.registry.forgotten()
    assert record.classes == ("b", "z")
    assert record.kept_labels(forgotten) == ("z",)
    with pytest.raises(NotFound, match="it is forgotten"):
        store.renaming.merge("b", "z")


def test_what_cannot_be_is_refused_and_changes_nothing(store: Store):
    store.pending.add(examples("a", 1) + examples("b", 1))
    with pytest.raises(LabelInUse, match="there is a class b already: merge a into it"):
        store.renaming.rename("a", "b")
    with pytest.raises(NotFound, match="no such label: c"):
        store.renaming.rename("c", "d")
    with pytest.raises(NotFound, match="no such label: d; to call a that, rename it"):
        store.renaming.merge("a", "d")
    with pytest.raises(ValueError, match="both are the same"):
        store.renaming.merge("a", "a")
    assert store.registry.state().revision == 0
    assert store.pending.labels() == ["a", "b"]


def test_what_happens_between_its_reading_and_its_writing_counts(store: Store, monkeypatch: pytest.MonkeyPatch):
    mine = lease(store)
    store.pending.add(examples("a", 3) + examples("z", 3))
    store.commit(step(store, mine, ["a"]))
    between: list[Callable[[], object]] = [
        lambda: store.commit(step(store, mine, ["z"], known=["a"])),
        lambda: (store.control.forget_class("a"), store.pending.add(examples("a", 1))),
        lambda: store.pending.add(examples("c", 1)),
    ]
    read = store.renaming._read
    moments = []

    def interrupted(*labels: str) -> object:
        moments.append(read(*labels))
        if between:
            between.pop(0)()
        return moments[-1]

    monkeypatch.setattr(store.renaming, "_read", interrupted)
    with pytest.raises(LabelInUse):
        store.renaming.rename("a", "c")
    assert len(moments) == 4
    assert store.registry.version(2).kept_labels(store.registry.forgotten()) == ("z",)
    assert store.pending.labels() == ["a", "c"]


def test_done_again_it_changes_nothing(store: Store):
    store.pending.add(examples("a", 1) + examples("b", 1))
    first = store.renaming.rename("a", "c")
    assert store.renaming.rename("a", "c").revision == first.revision
    store.renaming.merge("b", "c")
    store.renaming.merge("b", "c")
    with pytest.raises(NotFound):
        store.renaming.rename("b", "c")
    store.control.forget_class("c")
    with pytest.raises(NotFound):
        store.renaming.rename("a", "c")


def test_a_step_under_way_does_not_commit_what_it_read_under_the_old_label(store: Store):
    mine = lease(store)
    store.pending.add(examples("a", 3))
    late = step(store, mine, ["a"])
    store.renaming.rename("a", "b")
    with pytest.raises(InputsChanged):
        store.commit(late)
    store.quarantine.add(mine.epoch, {"a": 3}, {"reason": "late"})
    assert store.quarantine.entries() == {}
    assert not store.prototypes.put(1, {"a": Prototype(vector=np.ones(2), count=3)}, 0.0, revision=late.revision)
    assert store.prototypes.all(1).by_label == {}
    assert store.pending.counts()["b"].examples == 3


def test_approval_is_asked_for_under_the_new_label_and_given_by_a_merge(connect: Connect):
    store = connect(teaching=TeachingConfig(approve_new_labels=True))
    mine = lease(store)
    store.pending.add(examples("a", 2))
    store.renaming.rename("a", "b")
    assert store.quarantine.entries()["b"].awaiting
    assert store.quarantine.approve("b") == 2
    store.commit(step(store, mine, ["b"]))
    store.pending.add(examples("c", 2))
    store.renaming.merge("c", "b")
    assert store.quarantine.entries() == {}


@pytest.mark.parametrize("point", ["relabel.before", "relabel.after"])
@pytest.mark.parametrize("merge", [False, True])
def test_killed_at_any_instant_it_is_as_before_or_done(connect: Connect, point: str, merge: bool):
    store = connect(share=0.3)
    mine = lease(store)
    store.pending.add(examples("a", 8) + (examples("b", 8) if merge else []))
    store.commit(step(store, mine, ["a", "b"] if merge else ["a"]))
    store.pending.add(examples("a", 3, start=100))

    def change() -> int:
        renaming = connect(share=0.3).renaming
        return (renaming.merge if merge else renaming.rename)("a", "b").revision

    child = os.fork()
    if not child:
        os.environ[VARIABLE] = point
        change()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL

    done = point == "relabel.after"
    assert store.registry.state().revision == int(done)
    assert store.pending.labels() == (["b"] if done else ["a"])
    assert store.registry.version(1).classes == (("b",) if done else ("a", "b")[: 1 + merge])
    assert_counters_exact(store)
    assert change() == 1, "it is done once"
    assert store.pending.counts()["b"].examples == 3
    assert store.memory.labels() == ["b"]
    assert_counters_exact(store)


def test_a_record_says_of_one_class_what_it_said_of_two():
    before = VersionRecord(
        version=3,
        state="ready",
        parent=2,
        created_ms=1,
        labels=["z", "a", "b"],
        new_labels=["a", "b"],
        method="icarl",
        digest="",
        accuracy={"all": 0.8},
        class_accuracy={"z": 1.0, "a": 0.5, "b": 1.0},
        class_examples={"z": 2, "a": 6, "b": 2},
        step_seconds=1.0,
        stage_seconds={},
        learned={"z": "1-1", "a": "9-1", "b": "5-1"},
        revision=4,
        since={"z": 1, "a": 3, "b": 3},
        consumed={"a": 6, "b": 2},
    )
    merging = Relabelling(label="a", new_label="b", merge=True, alive=True, forgotten={}, revision=7)
    merged = merging.of(before)
    assert (merged.labels, merged.new_labels) == (["z", "b", "b"], ["b"])
    assert (merged.class_accuracy, merged.class_examples) == ({"z": 1.0, "b": 0.625}, {"z": 2, "b": 8})
    assert (merged.learned, merged.since) == ({"z": "1-1", "b": "5-1"}, {"z": 1, "b": 3})
    assert (merged.consumed, merged.revision) == ({"b": 8}, 4)
    into_known = replace(merging, label="b", new_label="z").of(before)
    assert (into_known.new_labels, into_known.since) == (["a"], {"z": 1, "a": 3})
    renaming = Relabelling(label="a", new_label="y", merge=False, alive=True, forgotten={}, revision=4)
    renamed = renaming.of(before)
    assert renamed == replace(
        before,
        labels=["z", "y", "b"],
        new_labels=["y", "b"],
        class_accuracy={"z": 1.0, "y": 0.5, "b": 1.0},
        class_examples={"z": 2, "y": 6, "b": 2},
        learned={"z": "1-1", "y": "9-1", "b": "5-1"},
        since={"z": 1, "y": 3, "b": 3},
        consumed={"y": 6, "b": 2},
        revision=5,
    ), "nothing is to be learned anew for it"
    assert replace(renaming, revision=6).of(before).revision == 4, "something was deleted, and is to be"


def test_a_backup_has_what_classes_were_called(connect: Connect, tmp_path: Path):
    store = connect()
    store.pending.add(examples("a", 2))
    store.renaming.rename("a", "b")
    artifacts = open_in(tmp_path)
    taken = store.back_up(tmp_path / "backup", artifacts)
    other = connect(prefix=f"restored-{tmp_path.name}")
    other.restore(taken, artifacts)
    assert other.pending.add(examples("a", 2)) == [Outcome.DUPLICATE] * 2
    assert other.pending.locate(["a-1"])["a-1"].label == "b"
