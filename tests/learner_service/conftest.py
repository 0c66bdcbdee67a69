"""What the tests of the learner's process share: a real store, and real learners in processes of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from accrete_storage.config import StoreConfig
from accrete_storage.store import Store
from tests.learner_service.helpers import RunningLearner
from tests.learner_service.run_learner import HOLDOUT
from tests.support.store import SharedStore


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """The data directory of the learners."""
    return tmp_path / "data"


@pytest.fixture
def store_config(shared_store: SharedStore) -> StoreConfig:
    """A prefix of the store that all tests share."""
    return shared_store.config()


@pytest.fixture
def store(data_dir: Path, store_config: StoreConfig) -> Iterator[Store]:
    """A connection to the store."""
    data_dir.mkdir()
    connected = Store.connect(store_config, HOLDOUT, data_dir=data_dir)
    connected.bind_model("uint8 [8, 8, 1]")
    yield connected
    connected.close()


@pytest.fixture
def start(data_dir: Path, store_config: StoreConfig, store: Store) -> Iterator[Callable[..., RunningLearner]]:
    """Starts learners; those that still run at the end are killed."""
    running: list[RunningLearner] = []

    def begin(**options: dict[str, object]) -> RunningLearner:
        running.append(RunningLearner(data_dir, store, store_config, **options))
        return running[-1]

    yield begin
    for learner in running:
        learner.kill()
