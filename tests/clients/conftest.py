"""A real server on a real port, and clients that do not wait long before they try again."""

from __future__ import annotations

import socket

import numpy as np
import pytest

from accrete import Client, Retry
from tests.clients.memory_server import MemoryServer

FAST = Retry(initial_s=0.01, max_s=0.05)


@pytest.fixture
def server():
    server = MemoryServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def state(server):
    return server.state


@pytest.fixture
def client(server):
    with Client(server.address, timeout=20, retry=FAST) as client:
        yield client


@pytest.fixture
def image():
    return np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)


@pytest.fixture
def free_address():
    """An address on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"
