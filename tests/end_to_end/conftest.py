"""A whole node for each test that asks for one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.digits import scans_by_label
from benchmarks.node import Node, descendants, runs
from tests.support.priority import FULL_PRIORITY


@pytest.fixture
def make_node(tmp_path: Path, request: pytest.FixtureRequest):
    nodes: list[Node] = []

    def make(
        epochs: int = 2,
        settings: dict[str, str] | None = None,
        name: str = "",
        environment: dict[str, str] | None = None,
    ) -> Node:
        folder = tmp_path / (name or f"node{len(nodes)}")
        folder.mkdir()
        node = Node(folder, epochs, settings, FULL_PRIORITY | (environment or {}))
        node.start()
        nodes.append(node)
        return node

    yield make
    for node in nodes:
        assert node.process is not None
        below = descendants(node.process.pid)
        if node.process.poll() is None:
            node.stop()
        left = [line for pid, line in below.items() if Path(f"/proc/{pid}").exists() and runs(pid)]
        print(node.log()[-6000:])
        assert not left, f"left running: {left}"


@pytest.fixture(scope="session")
def digits() -> dict[str, list[np.ndarray]]:
    """Real scans by label, uint8 [8, 8]."""
    return scans_by_label()
