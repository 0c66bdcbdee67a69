"""A store that all of a run's tests share, two versions trained once, and copies of that state for each test."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from accrete_storage.config import StoreConfig
from accrete_storage.embedded.server import EmbeddedStore, socket_url
from benchmarks.waiting import until
from tests.chaos.processes import Place
from tests.learner_service.helpers import digits

FIRST, SECOND = 60, 40
"""Examples that the first version learns, and those pending for the second: 30 of a new class, 10 of a known one."""

_numbers = itertools.count()


@pytest.fixture(scope="module", autouse=True)
def _one_ancestor() -> Iterator[None]:
    """The process that the others are forked from sees the packages that the test sees, and keeps to one thread."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("OPENBLAS_NUM_THREADS", "1")
        multiprocessing.get_context("forkserver").set_forkserver_preload(["pytest", "tests.chaos.processes"])
        yield


@pytest.fixture(scope="session")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an embedded store."""
    folder = tmp_path_factory.mktemp("s")
    server = EmbeddedStore(folder, StoreConfig())
    server.start()
    yield socket_url(folder)
    server.stop()


@pytest.fixture(scope="session")
def untouched(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Version 1 is live and the second step is due."""
    folder = tmp_path_factory.mktemp("untouched")
    place = Place(url, "untouched", folder / "data", folder / "kept")
    place.store.bind_model("uint8 [8, 8, 1]")
    place.store.pending.add(digits(0, 30) + digits(1, 30))
    learner = place.learner()
    until(lambda: place.store.registry.state().version == 1, lambda: f"version 1\n{place.log()}")
    assert learner.stop() == 0
    place.store.pending.add(digits(2, 30) + digits(0, 10, start=30))
    yield place
    place.close()


@pytest.fixture
def due(untouched: Place, tmp_path: Path) -> Iterator[Place]:
    """A copy of it."""
    place = untouched.copy(f"due{next(_numbers)}", tmp_path / "data")
    yield place
    place.close()


@pytest.fixture(scope="session")
def learned(untouched: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Both steps are done and version 1 is pinned."""
    place = untouched.copy("learned", tmp_path_factory.mktemp("learned") / "data")
    learner = place.learner()
    until(lambda: place.store.registry.state().version == 2, lambda: f"version 2\n{place.log()}")
    assert learner.stop() == 0
    place.store.registry.activate(1)
    yield place
    place.close()


@pytest.fixture
def both(learned: Place, tmp_path: Path) -> Iterator[Place]:
    """A copy of it."""
    place = learned.copy(f"both{next(_numbers)}", tmp_path / "data")
    yield place
    place.close()
