"""What a node does beyond its data directory: nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import tracing
from benchmarks.node import Node, descendants
from benchmarks.outside import own_places
from benchmarks.waiting import until
from tests.support.priority import FULL_PRIORITY


def test_a_node_that_learns_and_serves_reaches_nobody_and_writes_nothing_elsewhere(tmp_path: Path, digits):
    node = Node(tmp_path, environment=FULL_PRIORITY | own_places(tmp_path))
    trace = tmp_path / "trace"
    sees_calls = tracing.can_trace()
    node.start(lambda command: tracing.traced(command, trace) if sees_calls else command)
    seen: set[str] = set()
    try:
        with node.ready() as client:
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
    assert tracing.elsewhere(trace, node.data_dir) == set()


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
