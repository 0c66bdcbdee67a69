"""What a step takes from the store."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from accrete_learner_service.config import TriggerConfig
from accrete_learner_service.step.inputs import read_inputs
from accrete_learner_service.trigger import decide
from accrete_learner_service.waiting import pending_waits_for
from accrete_storage.config import HoldoutConfig, StoreConfig
from accrete_storage.store import Store
from tests.learner_service.helpers import digits

ALL = HoldoutConfig(share=1.0)
"""Sets every example aside, as happens by chance to a few of many classes of three."""


@pytest.fixture
def store(tmp_path: Path, store_config: StoreConfig) -> Iterator[Store]:
    connected = Store.connect(store_config, ALL, data_dir=tmp_path)
    yield connected
    connected.close()


def test_a_new_class_never_has_all_of_its_images_in_the_holdout(store: Store):
    for label, count in ((0, 3), (1, 2), (2, 1)):
        store.pending.add(digits(label, count))
    config = TriggerConfig(max_wait_s=60)
    later_ms = int(time.time() * 1000) + 61_000
    decision = decide(store.pending.counts(), known=(), quarantined={}, config=config, now_ms=later_ms)
    assert decision is not None
    assert decision.labels == {"digit 0", "digit 1", "digit 2"}
    inputs = read_inputs(store, decision.labels, ALL)
    measured = {label: len(found) for label, found in inputs.holdout.items()}
    assert measured == {"digit 0": 1, "digit 1": 1, "digit 2": 0}
    trained = [example.label for example in inputs.new]
    assert [trained.count(f"digit {label}") for label in range(3)] == [2, 1, 1]
    ids = [example.id for example in [*inputs.new, *(one for found in inputs.holdout.values() for one in found)]]
    assert len(ids) == len(set(ids)) == 6


def test_a_server_can_tell_what_pending_examples_wait_for(store: Store):
    assert pending_waits_for(store, TriggerConfig(), learns_all=False) == []
    store.pending.add(digits(0, 3))
    first = "examples of new labels: digit 0 has 3 of 20 (trigger.min_examples)"
    assert pending_waits_for(store, TriggerConfig(), learns_all=True)[0] == first
    assert pending_waits_for(store, TriggerConfig(min_examples=1, first_classes=1), learns_all=True) == []
