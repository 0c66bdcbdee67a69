"""What the tests of the learner's process share: a real store, and real learners in processes of their own."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from accrete_storage.config import StoreConfig
from accrete_storage.embedded.server import EmbeddedStore
from accrete_storage.store import Store
from tests.learner_service.helpers import RunningLearner
from tests.learner_service.run_learner import HOLDOUT


@pytest.fixture(autouse=True)
def _children_import_the_same_tree(monkeypatch: pytest.MonkeyPatch):
    """Processes that a test starts see the packages that the test sees, installed or not."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Short, for the path of a unix socket may have 107 characters."""
    return tmp_path_factory.mktemp("d")


@pytest.fixture
def store(data_dir: Path) -> Iterator[Store]:
    """The embedded store of `data_dir`, connected."""
    server = EmbeddedStore(data_dir, StoreConfig())
    server.start()
    connected = Store.connect(StoreConfig(), HOLDOUT, data_dir=data_dir)
    connected.bind_model("uint8 [8, 8, 1]")
    yield connected
    connected.close()
    server.stop(timeout_s=10)


@pytest.fixture
def start(data_dir: Path, store: Store) -> Iterator[Callable[..., RunningLearner]]:
    """Starts learners; those that still run at the end are killed."""
    running: list[RunningLearner] = []

    def begin(**options: dict[str, object]) -> RunningLearner:
        running.append(RunningLearner(data_dir, store, **options))
        return running[-1]

    yield begin
    for learner in running:
        learner.kill()
