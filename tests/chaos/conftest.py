"""A store that all of a run's tests share, two versions trained once, and copies of that state for each test."""

from __future__ import annotations

import itertools
import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.waiting import until
from tests.chaos.processes import Place
from tests.learner_service.helpers import digits
from tests.support.store import SharedStore

FIRST, SECOND = 60, 40
"""Examples that the first version learns, and those pending for the second: 30 of a new class, 10 of a known one."""

_numbers = itertools.count()


@pytest.fixture(scope="module", autouse=True)
def _one_ancestor() -> None:
    """The process that the others are forked from has imported everything."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(["pytest", "tests.chaos.processes"])


@pytest.fixture(scope="session")
def untouched(shared_store: SharedStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Version 1 is live and the second step is due."""
    folder = tmp_path_factory.mktemp("untouched")
    place = Place(shared_store.url, "untouched", folder / "data", folder / "kept")
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
