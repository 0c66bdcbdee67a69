"""A label that awaits approval is neither trained, not even by hand, nor answered provisionally."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from accrete_storage.config import StoreConfig, TeachingConfig
from accrete_storage.store import Store
from benchmarks.waiting import until
from tests.learner_service.helpers import RunningLearner, digits
from tests.learner_service.run_learner import HOLDOUT


@pytest.fixture
def asking(store: Store, store_config: StoreConfig, data_dir: Path) -> Iterator[Store]:
    """As a server's connection, that has new labels approved."""
    teaching = TeachingConfig(approve_new_labels=True)
    connected = Store.connect(store_config, HOLDOUT, data_dir=data_dir, teaching=teaching)
    yield connected
    connected.close()


def test_new_labels_are_learned_once_they_are_approved(start: Callable[..., RunningLearner], asking: Store) -> None:
    learner = start()
    for label in (0, 1, 2):
        asking.pending.add(digits(label, 30))
    asking.quarantine.approve("digit 0")
    asking.quarantine.approve("digit 1")
    assert learner.version(1).labels == ["digit 0", "digit 1"]

    asking.control.request_step()
    until(lambda: "step.nothing_to_learn" in learner.log(), "nothing to learn")
    assert asking.registry.state().version == 1
    asking.pending.add(digits(3, 5))
    asking.quarantine.approve("digit 3")
    assert learner.event("provisional")["label"] == "digit 3"
    assert list(asking.prototypes.all(1).by_label) == ["digit 3"]
    assert asking.pending.counts()["digit 2"].examples == 30, "what awaits approval is kept"

    asking.quarantine.approve("digit 2")
    assert learner.version(2).new_labels == ["digit 2"]
