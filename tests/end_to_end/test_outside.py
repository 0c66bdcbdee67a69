"""What a node does beyond its data directory: nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.node import Node, descendants
from benchmarks.waiting import until
from tests.support import tracing
from tests.support.priority import FULL_PRIORITY

ALLOWED = ("/dev/null", "/dev/tty", "/dev/pts", "/proc", "/dev/nvidia")
"""The terminal, and what is no file: written to by everybody."""


@pytest.fixture
def places(tmp_path: Path) -> dict[str, str]:
    """Where a process finds the user's and temporary folders, by variable; all of them empty."""
    folders = {"HOME": "home", "XDG_CACHE_HOME": "home/.cache", "XDG_CONFIG_HOME": "home/.config", "TMPDIR": "tmp"}
    for name in folders.values():
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
    return {variable: str(tmp_path / name) for variable, name in folders.items()}


def test_a_node_that_learns_and_serves_reaches_nobody_and_writes_nothing_elsewhere(tmp_path: Path, places, digits):
    node = Node(tmp_path, environment=FULL_PRIORITY | places)
    trace = tmp_path / "trace"
    sees_calls = tracing.can_trace()
    node.start(lambda command: tracing.traced(command, trace) if sees_calls else command)
    seen: set[str] = set()
    try:
        with node.client() as client:
            client.wait_ready(300)
            client.add_examples((label, image) for label in "01" for image in digits[label][:40])

            def serves() -> bool:
                seen.update(_peers(node))
                return client.status().version == 1

            until(serves, seconds=300)
            client.predict(digits["0"][50])
    finally:
        node.stop()
    assert not seen
    for name in ("home", "tmp"):
        left = [path for path in (tmp_path / name).rglob("*") if not path.is_dir() or not any(path.iterdir())]
        assert {path.name for path in left} <= {".cache", ".config"}
    if not sees_calls:
        pytest.skip("no strace here: files in other folders, and connections between two looks, were not watched")
    assert not tracing.reached(trace)
    # Python keeps a module's bytecode beside it, once, unless the installation did.
    elsewhere = {path for path in tracing.written(trace) if path.is_absolute() and "__pycache__" not in path.parts}
    own = {path for path in elsewhere if node.data_dir in (path, *path.parents)}
    assert {path for path in elsewhere - own if not str(path).startswith(ALLOWED)} == set()


def _peers(node: Node) -> set[str]:
    """Return the remote addresses of the node's internet sockets at this moment, this machine's own left out."""
    assert node.process is not None
    inodes = set()
    for pid in descendants(node.process.pid):
        try:
            links = [str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()]
        except OSError:
            continue
        inodes |= {link.removeprefix("socket:[").removesuffix("]") for link in links if link.startswith("socket:[")}
    found = set()
    for table in ("tcp", "udp", "tcp6", "udp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[9] in inodes:
                found.add(fields[2].partition(":")[0])
    local = ("0100007F", "00000000", "0" * 32, "0" * 24 + "01000000", "0" * 16 + "FFFF00000100007F")
    return {address for address in found if address not in local}
