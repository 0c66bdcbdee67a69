"""What the fault runs of `benchmarks.cluster` rest on does what they take it to do."""

from __future__ import annotations

import dataclasses
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cluster.machines import Machine, Network, can_be_made
from benchmarks.cluster.rounds import Results, Round
from benchmarks.waiting import until

pytestmark = pytest.mark.integration

_PORT = 7000
_LISTEN = f"import socket; s = socket.create_server(('', {_PORT})); [s.accept() for _ in iter(int, 1)]"


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[tuple[Machine, Machine]]:
    if not can_be_made():
        pytest.skip("namespaces of the kernel cannot be made here: that takes root on Linux")
    network = Network()
    made = [Machine(network, tmp_path / name, {}, {}) for name in ("one", "other")]
    yield made[0], made[1]
    for machine in made:
        machine.turn_off()
    network.close()


def reach(machine: Machine, address: str) -> bool:
    connect = f"import socket; socket.create_connection(('{address}', {_PORT}), timeout=0.3)"
    try:
        machine.run([sys.executable, "-S", "-c", connect])
    except RuntimeError:
        return False
    return True


def test_machines_have_disks_and_names_of_their_own_and_can_lose_each_other_and_their_power(
    machines: tuple[Machine, Machine],
):
    one, other = machines
    other.start([sys.executable, "-S", "-c", _LISTEN])
    until(lambda: reach(one, other.address))
    assert one.run(["hostname"]).strip() == one.name != socket.gethostname()
    (pid,) = other.pids("create_server")
    assert one.pids("create_server") == []

    one.lose(other.address)
    other.lose(one.address)
    assert not reach(one, other.address)
    one.find(other.address)
    other.find(one.address)
    assert reach(one, other.address)

    (other.folder / "ray" / "kept").touch()
    other.turn_off()
    until(lambda: not Path(f"/proc/{pid}").exists())
    assert not reach(one, other.address)
    other.turn_on()
    assert other.run(["ls", "/tmp/ray"]).split() == ["kept"]
    assert one.run(["ls", "/tmp/ray"]).split() == []


SOUND = Round(
    kind="node", round=0, what="", acknowledged=10, lost=0, doubled=0, skipped=0, otherwise=0, predictions=5,
    failed_predictions=0, failed_teaching=0, slowest_s=0.1, whole_s=3.0, lacks="", load=1.0, notes=[],
)  # fmt: skip


@pytest.mark.parametrize(
    "wrong", ["lost", "doubled", "skipped", "otherwise", "failed_predictions", "failed_teaching", "lacks"]
)
def test_a_round_that_did_not_come_to_what_it_must_is_told(wrong: str):
    assert SOUND.ok
    values: dict[str, Any] = {wrong: "a server" if wrong == "lacks" else 1}
    assert not dataclasses.replace(SOUND, **values).ok


def test_rounds_are_kept_one_by_one_and_told_in_a_table(tmp_path: Path):
    file = tmp_path / "results.json"
    Results(file).add(SOUND)
    results = Results(file)
    assert results.has("node", 0)
    assert not results.has("node", 1)
    results.add(dataclasses.replace(SOUND, round=1, lost=2, whole_s=5.0))
    results.add(dataclasses.replace(SOUND, round=1, lost=1, whole_s=4.0))
    assert Results(file).rounds == results.rounds
    assert "| node | 2 | 20 | 1 | 0 | 10 | 0 | 0 | 0.1 s | 3.5 s (3.0 to 4.0) |" in results.table()
