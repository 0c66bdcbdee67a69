"""What all tests share: one store for each process that runs tests, and an environment for the processes they start."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

from tests.support.store import SharedStore


@pytest.fixture(scope="session", autouse=True)
def _children_see_the_same_packages() -> Iterator[None]:
    """Processes that a test starts see the packages that the test sees, installed or not, and keep to one thread."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("OPENBLAS_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="session")
def shared_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedStore]:
    """An embedded store that runs until the end; take a prefix of it with `shared_store.config()`."""
    store = SharedStore(tmp_path_factory.mktemp("store"))
    store.start()
    yield store
    store.stop()
