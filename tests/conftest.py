"""What all tests share: how they are spread and marked, one store per worker, and what their child processes see."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Generator, Iterator
from itertools import groupby, zip_longest
from pathlib import Path

import pytest

from benchmarks import bucket
from tests.support.buckets import VARIABLE, Buckets
from tests.support.store import SharedStore

MAX_WORKERS = 4
"""Each worker takes some 700 MB, and the nodes that it starts take more."""
PRIORITY = 15
"""Of workers, 19 being the lowest, which trainers have."""
INTEGRATION_FOLDERS = {"chaos", "end_to_end"}
INTEGRATION_FIXTURES = {"shared_store", "world", "url", "buckets"}
"""Fixtures behind which there is a store or a bucket. `world` and `url` choose theirs when they are made."""


@pytest.hookimpl(optionalhook=True)  # a GPU machine has no xdist
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Return how many workers `-n auto` starts: two more than cores, for a test waits for processes half of its time.

    None for the tests of one file, for they are few.
    """
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    named = [argument.partition("::")[0] for argument in config.args]
    if len(set(named)) == 1 and named[0].endswith(".py"):
        return 0
    return min(len(os.sched_getaffinity(0)) + 2, MAX_WORKERS) if hasattr(os, "sched_getaffinity") else None


def pytest_configure(config: pytest.Config) -> None:
    """Have workers, and so what they start, compute on one thread and at about a trainer's priority.

    There are more of them than cores, where threads wait for each other. Beside tests of a higher priority, a node that
    trains at the lowest would wait for minutes.
    """
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # read when a library is loaded: too late in a worker
        os.environ.setdefault(name, "1")
    if hasattr(config, "workerinput") and hasattr(os, "setpriority"):
        os.setpriority(os.PRIO_PROCESS, 0, max(PRIORITY, os.getpriority(os.PRIO_PROCESS, 0)))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect no garbage while everything is imported, and never look again through what that has made."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as `integration` what needs a store, and as `unit` what has no reason to be marked so."""
    for item in items:
        folder = item.path.relative_to(Path(__file__).parent).parts[0]
        fixtures = set(getattr(item, "fixturenames", ()))
        if folder in INTEGRATION_FOLDERS or fixtures & INTEGRATION_FIXTURES:
            item.add_marker("integration")
        elif item.get_closest_marker("integration") is None:
            item.add_marker("unit")
    if "PYTEST_XDIST_WORKER" in os.environ:
        items[:] = _mixed(items)


def _mixed(items: list[pytest.Item]) -> list[pytest.Item]:
    """Return the files from both ends by turns, so that the workers have both kinds of them at the same time.

    In order of names, what computes comes first and what waits for stores last, where cores then are idle.
    """
    files = [list(of_file) for _, of_file in groupby(items, key=lambda item: item.path)]
    half = (len(files) + 1) // 2
    by_turns = zip_longest(files[:half], reversed(files[half:]))
    return [item for pair in by_turns for of_file in pair for item in of_file or ()]


@pytest.fixture(scope="session", autouse=True)
def _children_see_the_same_packages() -> Iterator[None]:
    """Processes that a test starts see the packages that the test sees, installed or not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
        yield


@pytest.fixture(scope="session")
def shared_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedStore]:
    """An embedded store that runs until the end; take a prefix of it with `shared_store.config()`."""
    store = SharedStore(tmp_path_factory.mktemp("store"))
    store.start()
    yield store
    store.stop()


@pytest.fixture(scope="session")
def buckets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buckets]:
    """Servers of buckets, of each kind one once it is asked for."""
    servers = Buckets(tmp_path_factory.mktemp("buckets"))
    yield servers
    servers.stop()


@pytest.fixture(scope="session", autouse=True)
def _versions_in_the_bucket_that_is_asked_for(request: pytest.FixtureRequest) -> Iterator[None]:
    """With the variable, `home_of` answers a prefix of it for each data directory."""
    with pytest.MonkeyPatch.context() as patch:
        if kind := os.environ.get(VARIABLE):
            url, environment = request.getfixturevalue("buckets").new(kind)
            for name, value in {bucket.VARIABLE: url, **environment}.items():
                patch.setenv(name, value)
        yield
