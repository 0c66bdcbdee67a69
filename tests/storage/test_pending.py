"""Examples are stored once, whole batches or not at all, and are there after a kill."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from accrete_storage.config import HoldoutConfig, StoreConfig
from accrete_storage.embedded.server import EmbeddedStore
from accrete_storage.errors import PendingFull, StoreUnavailable
from accrete_storage.examples.ids import is_holdout, position_key
from accrete_storage.examples.pending import Outcome
from accrete_storage.store import Store

from .conftest import Connect, assert_counters_exact, example, examples

ODD_LABELS = ["a b", "a:b", "{a}", "a|b|c", "ключ", "🦆", "'\"\\"]


def test_an_example_is_stored_once_however_often_it_is_sent(store: Store):
    first = store.pending.add([example("a", 1), example("a", 2), example("a", 1)])
    again = store.pending.add([example("a", 2), example("a", 3)])
    assert first == [Outcome.STORED, Outcome.STORED, Outcome.DUPLICATE]
    assert again == [Outcome.DUPLICATE, Outcome.STORED]
    assert [entry.example.id for entry in store.pending.read("a")] == ["a-1", "a-2", "a-3"]
    assert_counters_exact(store)


def test_the_same_id_with_other_content_or_label_conflicts_and_changes_nothing(store: Store):
    store.pending.add([example("a", 1)])
    other = example("b", 1)
    conflicts = [example("a", 1, value=9), type(other)(id="a-1", label="b", content=other.tensor)]
    assert store.pending.add(conflicts) == [Outcome.CONFLICT, Outcome.CONFLICT]
    assert store.pending.add([example("c", 5), example("c", 5, value=6)]) == [Outcome.STORED, Outcome.CONFLICT]
    assert sorted(store.pending.counts()) == ["a", "c"]
    assert_counters_exact(store)


def test_what_is_read_is_what_was_stored(store: Store):
    sent = example("a", 7)
    store.pending.add([sent])
    (entry,) = store.pending.read("a")
    assert (entry.example.id, entry.example.label, dict(entry.example.metadata)) == ("a-7", "a", {"n": "7"})
    assert (entry.example.tensor == sent.tensor).all()
    assert entry.example.tensor.dtype == sent.tensor.dtype


@pytest.mark.parametrize("limit", [{"pending_max_examples": 4}, {"pending_max_bytes": 120}])
def test_a_batch_beyond_the_budget_is_refused_whole(connect: Connect, limit: dict[str, int]):
    store = connect(**limit)
    store.pending.add(examples("a", 3))
    with pytest.raises(PendingFull) as refused:
        store.pending.add(examples("b", 3))
    assert refused.value.limit == next(iter(limit))
    assert refused.value.value == next(iter(limit.values()))
    assert refused.value.retry_after_s > 0
    assert list(store.pending.counts()) == ["a"]
    assert store.pending.locate(["b-0"]) == {}
    assert store.pending.add(examples("a", 3)) == [Outcome.DUPLICATE] * 3, "what is stored already needs no room"
    assert_counters_exact(store)


@pytest.mark.parametrize("label", ODD_LABELS)
def test_any_label_is_a_label(store: Store, label: str):
    store.pending.add(examples(label, 2))
    assert store.pending.counts()[label].examples == 2
    assert store.pending.locate([f"{label}-0"])[f"{label}-0"].label == label
    assert store.control.forget_class(label).pending == 2


def test_the_hold_out_is_flagged_by_the_id_alone(connect: Connect):
    store = connect(share=0.3)
    store.pending.add(examples("a", 200))
    flagged = {entry.example.id for entry in store.pending.read("a") if entry.holdout}
    assert flagged == {one.id for one in examples("a", 200) if is_holdout(one.id, 0.3)}
    assert 30 < len(flagged) < 90
    assert store.pending.counts()["a"].holdout == len(flagged)


def test_an_id_is_remembered_for_a_moment_at_least(connect: Connect):
    store = connect(dedup_days=1e-9)
    assert store.pending.add(examples("a", 2)) == [Outcome.STORED] * 2
    assert_counters_exact(store)


def test_positions_grow_and_locate_finds_them(store: Store):
    store.pending.add(examples("a", 20))
    entries = store.pending.read("a")
    keys = [position_key(entry.position) for entry in entries]
    assert keys == sorted(keys)
    located = store.pending.locate([entry.example.id for entry in entries] + ["never"])
    assert [located[entry.example.id].position for entry in entries] == [entry.position for entry in entries]
    assert "never" not in located
    assert len(store.pending.read("a", after=entries[4].position)) == len(entries) - 5
    assert len(store.pending.read("a", limit=3)) == 3


@pytest.mark.integration
def test_all_that_was_acknowledged_is_there_after_the_server_was_killed(tmp_path: Path):
    server = EmbeddedStore(tmp_path, StoreConfig())
    server.start()
    store = Store.connect(StoreConfig(), HoldoutConfig(), data_dir=tmp_path)
    try:
        for number in range(20):
            store.pending.add([example("a", number)])
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        # Its socket closes before the process has ended, and until then `start` has nothing to bring back.
        os.waitid(os.P_PID, server.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(StoreUnavailable):
            store.pending.add([example("a", 99)])
        with pytest.raises(StoreUnavailable):
            store.pending.counts()
        server.start()
        assert [entry.example.id for entry in store.pending.read("a")][:20] == [f"a-{n}" for n in range(20)]
        assert store.pending.add([example("a", 3)]) == [Outcome.DUPLICATE]
        assert_counters_exact(store)
    finally:
        store.close()
        server.stop()


def test_every_example_of_a_batch_of_thousands_is_told_for_itself(store: Store):
    sent = [example(f"label {number % 7}", number, value=1) for number in range(9_800)]
    assert store.pending.add(sent[::2]) == [Outcome.STORED] * 4900
    other = [example(one.label, number, value=9) for number, one in enumerate(sent) if number % 49 == 0]
    outcomes = store.pending.add([*sent, *other])
    assert outcomes == [Outcome.DUPLICATE, Outcome.STORED] * 4900 + [Outcome.CONFLICT] * 200
    assert [count.examples for count in store.pending.counts().values()] == [1400] * 7
    found = store.pending.locate(one.id for one in sent)
    assert [found[one.id].label for one in sent] == [one.label for one in sent]
    assert_counters_exact(store)
