"""A real store, real artifacts and a real server for each test that asks for one."""

from __future__ import annotations

import pathlib
import shutil
import tempfile
from collections.abc import Iterator

import pytest

from accrete_storage.config import StoreConfig
from tests.server.world import World

EVERY_FRONT = {"test_access", "test_bad_input", "test_fuzz", "test_open_inference", "test_prediction", "test_serving"}
"""Modules whose tests of predictions run against each front."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give the tests of those modules every front."""
    if "front" in metafunc.fixturenames and metafunc.module.__name__.rpartition(".")[2] in EVERY_FRONT:
        metafunc.parametrize("front", ["queue", "handlers"])


@pytest.fixture
def front() -> str:
    """How calls come from gRPC to the pipeline (`server.front`)."""
    return "auto"


@pytest.fixture
def world(request: pytest.FixtureRequest, front: str) -> Iterator[World]:
    """A data directory and a store; ends every server that was started in it.

    The store is a prefix of the one that all tests share. A test that kills or configures its store has the mark
    `own_store`, and gets an embedded store in the data directory.
    """
    own = request.node.get_closest_marker("own_store") is not None
    config = StoreConfig(timeout_s=1.0) if own else request.getfixturevalue("shared_store").config(timeout_s=5.0)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="accrete-"))  # short: an embedded store's socket lies in it
    world = World(folder, config, front)
    try:
        if own:
            world.start_store()
        yield world
    finally:
        world.close()
        shutil.rmtree(folder)
