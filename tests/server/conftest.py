"""A real store, real artifacts and a real server for each test that asks for one."""

from __future__ import annotations

import pathlib
import shutil
import tempfile
from collections.abc import Iterator

import pytest

from tests.server.world import World


@pytest.fixture
def world() -> Iterator[World]:
    """A data directory with the embedded store running; ends every server that was started in it."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="accrete-"))  # short: the store's socket lies in it
    world = World(folder)
    try:
        world.start_store()
        yield world
    finally:
        world.close()
        shutil.rmtree(folder)
