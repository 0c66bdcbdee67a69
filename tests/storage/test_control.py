"""Operators pause, ask for steps, and take examples and classes out."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import redis

from accrete_model.input_spec import InputSpec
from accrete_storage.errors import NotFound, StoreMisconfigured
from accrete_storage.examples.example import Example
from accrete_storage.examples.ids import position_key
from accrete_storage.examples.pending import Outcome
from accrete_storage.examples.review import Selection
from accrete_storage.store import Store
from accrete_storage.versions.prototypes import Prototype
from benchmarks.waiting import until

from .conftest import Connect, assert_counters_exact, examples, ids, lease, step


def test_pausing_is_remembered(store: Store, connect: Connect):
    assert not store.control.paused()
    store.control.pause()
    assert connect().control.paused()
    store.control.resume()
    assert not store.control.paused()


def test_a_step_that_was_asked_for_is_taken_once(store: Store):
    store.control.request_step()
    assert store.control.take_step_request()
    assert not store.control.take_step_request()


def test_who_asks_training_to_yield_asks_for_a_while(store: Store, connect: Connect):
    assert not store.control.asked_to_yield()
    store.control.ask_to_yield(2.0)
    assert connect().control.asked_to_yield()
    until(lambda: not store.control.asked_to_yield(), "the end of it")


def test_examples_are_deleted_wherever_they_are_kept(connect: Connect):
    store = connect(share=0.3)
    mine = lease(store)
    store.pending.add(examples("a", 20))
    store.commit(step(store, mine, ["a"]))
    store.pending.add(examples("a", 2, start=100))
    exemplar, holdout = store.memory.exemplars("a")[0].id, store.memory.holdout("a")[0].id
    before = store.registry.state().revision
    result = store.control.delete_examples([exemplar, holdout, "a-100", "nobody"])
    assert (result.deleted, result.unknown) == (3, ["nobody"])
    assert store.registry.state().revision > before
    assert exemplar not in ids(store.memory.exemplars("a"))
    assert holdout not in ids(store.memory.holdout("a"))
    assert [entry.example.id for entry in store.pending.read("a")] == ["a-101"]
    assert store.pending.locate([exemplar, "a-100"]) == {}
    assert_counters_exact(store)


def test_examples_are_taken_out_without_reading_the_others_of_their_label(store: Store, url: str):
    """They may be gigabytes, and the store answers nobody meanwhile."""
    mine = lease(store)
    store.pending.add(examples("a", 40))
    entries = store.pending.read("a")
    client: Any = redis.Redis.from_url(url)
    with client.monitor() as monitor:
        assert store.control.delete_examples([f"a-{n}" for n in range(30)]).deleted == 30
        assert store.review.set_aside(mine.epoch, "a", [(entry, "burst") for entry in entries[30:35]]) == 5
        client.echo("enough")
        said = list(iter(lambda: monitor.next_command()["command"], "ECHO enough"))
    reads = [command for command in said if command.startswith("XRANGE")]
    assert len(reads) == 35
    assert not [command for command in reads if command.endswith(" - +")]
    client.close()
    assert_counters_exact(store)


def test_an_example_that_is_learned_while_it_is_deleted_goes(store: Store, monkeypatch: pytest.MonkeyPatch):
    mine = lease(store)
    store.pending.add(examples("a", 4))
    commit = step(store, mine, ["a"])
    call, moves = store._database.call, iter([lambda: store.commit(commit)])

    def late(script: str, *rest: Any) -> Any:
        if script == "delete":
            next(moves, lambda: None)()  # after the places were found, before anything is removed
        return call(script, *rest)

    monkeypatch.setattr(store._database, "call", late)
    assert store.control.delete_examples(["a-0", "a-1"]).deleted == 2
    assert store.memory.exemplars("a") == []
    assert_counters_exact(store)


def test_an_example_that_is_released_from_review_while_it_is_deleted_goes(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    mine = lease(store)
    store.pending.add(examples("a", 2))
    store.review.set_aside(mine.epoch, "a", [(store.pending.read("a")[0], "burst")])
    call, moves = store._database.call, iter([lambda: store.review.release(Selection(label="a"))])

    def late(script: str, *rest: Any) -> Any:
        if script == "delete":
            next(moves, lambda: None)()
        return call(script, *rest)

    monkeypatch.setattr(store._database, "call", late)
    assert store.control.delete_examples(["a-0"]).deleted == 1
    assert [entry.example.id for entry in store.pending.read("a")] == ["a-1"]
    assert_counters_exact(store)


def test_an_example_that_waits_for_longer_than_ids_are_remembered_is_deleted(connect: Connect):
    store = connect(dedup_days=2e-7)
    mine = lease(store)
    store.pending.add(examples("a", 3))
    store.review.set_aside(mine.epoch, "a", [(store.pending.read("a")[0], "burst")])
    until(lambda: not store.pending.locate(["a-0", "a-1"]), "the ids forgotten")
    assert store.control.delete_examples(["a-0", "a-1", "nobody"]).unknown == ["nobody"]
    assert [entry.example.id for entry in store.pending.read("a")] == ["a-2"]
    assert store.review.total() == 0
    assert_counters_exact(store)


def test_what_was_made_from_an_example_goes_with_it(store: Store):
    mine = lease(store)
    store.pending.add(examples("a", 6))
    commit = step(store, mine, ["a"])
    tensor = np.zeros((2, 2, 1), np.uint8)
    collages = [
        Example(id=f"synthesised-1-{n}", label="a", content=tensor, made_from=frozenset({f"a-{n}", f"a-{n + 1}"}))
        for n in range(4)
    ]
    store.stage(commit.step_id, {"a": collages}, {})
    store.commit(replace(commit, per_class=4))
    result = store.control.delete_examples(["a-1", "a-2", "a-5"])
    assert (result.deleted, result.unknown) == (2, ["a-5"])
    assert ids(store.memory.exemplars("a")) == ["synthesised-1-3"]
    assert_counters_exact(store)


def test_deleting_nothing_leaves_the_revision(store: Store):
    before = store.registry.state().revision
    assert store.control.delete_examples(["x"]).deleted == 0
    assert store.registry.state().revision == before


def test_a_forgotten_class_is_gone_and_can_be_taught_again_with_the_same_images(store: Store):
    mine = lease(store)
    store.pending.add(examples("a", 4))
    store.commit(step(store, mine, ["a"]))
    store.pending.add(examples("a", 2, start=10))
    result = store.control.forget_class("a")
    assert (result.pending, result.exemplars) == (2, 2)
    assert store.registry.forgotten()["a"] == store.registry.state().revision
    assert store.memory.counts() == {}
    assert store.pending.counts() == {}
    assert store.pending.locate(["a-0", "a-10"]) == {}, "what was forgotten is not known any more"
    assert store.pending.add(examples("a", 4)) == [Outcome.STORED] * 4
    assert len(store.pending.locate([f"a-{n}" for n in range(4)])) == 4
    assert store.events.read("0")[-1].kind == "forgotten"
    assert_counters_exact(store)


def test_positions_grow_over_a_clock_that_is_set_back_and_over_forgetting(connect: Connect, url: str):
    store = connect()
    store.pending.add(examples("a", 1))
    client = redis.Redis.from_url(url)
    stream = store._keys.pending("a")
    in_an_hour = int(time.time() * 1000) + 3_600_000
    client.xadd(stream, {"e": "", "h": "0"}, id=f"{in_an_hour}-0")  # the clock was an hour ahead
    client.xdel(stream, f"{in_an_hour}-0")
    store.pending.add(examples("a", 1, start=1))
    assert position_key(store.pending.locate(["a-1"])["a-1"].position) > (in_an_hour, 0)
    store.control.forget_class("a")
    store.pending.add(examples("a", 1, start=2))
    assert position_key(store.pending.locate(["a-2"])["a-2"].position) > (in_an_hour, 1)
    assert store.pending.counts()["a"].examples == 1
    client.close()


def test_a_class_nobody_knows_cannot_be_forgotten(store: Store):
    with pytest.raises(NotFound, match="label"):
        store.control.forget_class("x")


def test_a_class_without_kept_examples_can_be_forgotten_while_a_version_knows_it(store: Store):
    mine = lease(store)
    store.pending.add(examples("a", 4))
    store.commit(step(store, mine, ["a"], per_class=0))
    store.control.forget_class("a")
    assert "a" in store.registry.forgotten()


def test_the_store_is_bound_to_the_model_it_holds_examples_for(store: Store, connect: Connect):
    store.bind_model("uint8 [8, 8, 1]")
    connect().bind_model("uint8 [8, 8, 1]")
    with pytest.raises(StoreMisconfigured, match=r"8, 8, 1.*32, 32, 3"):
        connect().bind_model("uint8 [32, 32, 3]")


def test_a_store_of_stretched_images_takes_no_cropped_ones(store: Store, connect: Connect):
    store.bind_model(str(InputSpec((224, 224, 3), "uint8")))
    with pytest.raises(StoreMisconfigured, match=r"uint8 \[224, 224, 3\], and .* uint8 \[224, 224, 3\], the middle"):
        connect().bind_model(str(InputSpec((224, 224, 3), "uint8", shorter_side=256)))


def test_prototypes_are_kept_by_version(store: Store):
    vector = np.arange(4, dtype=np.float32)
    store.prototypes.put(1, {"a b": Prototype(vector=vector, count=5)}, 0.25)
    store.prototypes.put(2, {"c": Prototype(vector=vector, count=1)}, 0.5)
    assert store.prototypes.all(1).margin == 0.25
    (found,) = store.prototypes.all(1).by_label.items()
    assert (found[0], found[1].count) == ("a b", 5)
    assert (found[1].vector == vector).all()
    store.prototypes.drop(1, ["a b", "nobody"])
    assert store.prototypes.all(1).by_label == {}


def test_a_forgotten_class_leaves_no_prototype_of_a_version_that_can_be_activated(store: Store):
    """The learner, which removes them as well, may be away."""
    mine = lease(store)
    store.pending.add(examples("a", 2))
    store.commit(step(store, mine, ["a"]))
    store.pending.add(examples("b", 2))
    prototype = Prototype(vector=np.ones(4, np.float32), count=2)
    store.prototypes.put(1, {"b": prototype, "c": prototype}, 0.0)
    store.control.forget_class("b")
    assert list(store.prototypes.all(1).by_label) == ["c"]


def test_events_are_read_from_a_place_on_and_waited_for(store: Store):
    assert store.events.last_id() == "0"
    first = store.events.append("phase", {"phase": "waiting"})
    second = store.events.append("progress", {"done": 1})
    assert [event.id for event in store.events.read("0")] == [first, second]
    (event,) = store.events.read(first)
    assert (event.kind, event.body, event.id) == ("progress", {"done": 1}, second)
    assert store.events.read(second, block_ms=20) == []
    assert store.events.last_id() == second


def test_the_phase_is_told_and_kept(store: Store):
    mine = lease(store)
    assert store.control.phase() == "waiting"
    assert store.control.set_phase(mine.epoch, "training", "why")
    assert store.control.phase() == "training"
    assert store.events.read("0")[-1].body == {"phase": "training", "reason": "why"}
