"""A whole cluster on one machine: a store, Ray's store, a bucket, and machines with Ray on which Accrete runs."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import secrets
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from accrete import Client
from accrete_kit.failpoints import VARIABLE
from accrete_storage.config import HoldoutConfig, StoreConfig
from accrete_storage.store import Store
from benchmarks.cluster.machines import Machine, Network
from benchmarks.cluster.services import Bucket, Valkey

NODES = 3
"""Machines that serve and learn, beside the one with Ray's head."""
SERVERS = 2
LEARNERS = 2
DIMENSIONS = 16
PER_CLASS = 5
HOLDOUT = HoldoutConfig(share=0.0)
_RAY_PORT = 6379
_PORT = 50051
_SETTINGS = """
preset = "embeddings"
data_dir = "{data_dir}"
[cluster]
servers = {servers}
learners = {learners}
[model]
embedding = {dimensions}
[store]
url = "{store}"
[artifacts]
url = "{bucket}"
[access]
insecure = true
[trigger]
refresh_examples = 4
max_wait_s = 1.0
[memory]
kind = "per_class"
size = {per_class}
[learner]
metrics_port = 0
lease_s = 3.0
keep_versions = 2
[server]
port = {port}
metrics_port = 0
max_watchers = {watchers}
[page]
enabled = false
[log]
format = "text"
{training}
"""
_RANKS = """
[method]
name = "icarl"
[holdout]
share = 0.0
[training]
ranks = {ranks}
device = "cpu"
base_epochs = {epochs}
epochs = {epochs}
batch_size = 16
"""
_EPOCHS = 100
"""A step then takes a second or some more, in which it can be struck."""
_HEALTH = {
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_health_check_failure_threshold": "4",
}
"""Ray gives a node up after a quarter of a minute without a word from it; with its own settings that takes about twice
as long."""
SERVE, LEARN, TRAIN = "accrete_node serve", "accrete_node learn", "accrete_learner.trainer"
"""What is in the command lines of the servers', of the learners' and of the trainers' processes."""


class Place:
    """Everything that a cluster needs, and the cluster."""

    def __init__(self, folder: Path, stack: ExitStack, nodes: int, ranks: int) -> None:
        """Start all of it but the cluster, with so many nodes. `stack` ends it.

        A step of several ranks is one that trains; with one, steps are closed forms.
        """
        self.folder = folder
        self._ranks = ranks
        self.data_dir = folder / "here" / "data"
        self.failpoints = folder / "failpoints"
        self._stack = stack
        self._numbers = itertools.count(1)
        self._upgrades = itertools.count(1)
        self.network = Network()
        stack.callback(self.network.close)
        self.store_server = Valkey(folder / "store", self.network.host)
        self.ray_store = Valkey(folder / "ray-store", self.network.host, fsync="everysec")
        self.bucket = Bucket(folder / "bucket", self.network.host)
        for service in (self.store_server, self.ray_store, self.bucket):
            stack.callback(service.kill)
            service.start()
        os.environ.update(self.bucket.environment)  # this process looks into it as well
        self._environment = {
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_REDIS_ADDRESS": self.ray_store.address,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            VARIABLE: f"@{self.failpoints}",
            **_HEALTH,
        }
        self.config = folder / "accrete.toml"
        self.configure()
        self.head = self._machine()
        self.start_head()
        self.nodes: list[Machine] = []
        self.nodes += [self._machine() for _ in range(nodes)]
        for node in self.nodes:
            self.start_node(node)
        self.store = Store.connect(StoreConfig(url=self.store_server.url, timeout_s=60.0), HOLDOUT, data_dir=folder)
        stack.callback(self.store.close)

    def configure(self, watchers: int = 64) -> None:
        """Write the settings; another number of watchers is a change that every server has to be started anew for."""
        text = _SETTINGS.format(
            data_dir=self.data_dir,
            servers=SERVERS,
            learners=LEARNERS,
            dimensions=DIMENSIONS,
            store=self.store_server.url,
            bucket=self.bucket.url,
            per_class=PER_CLASS,
            watchers=watchers,
            port=_PORT,
            training="" if self._ranks == 1 else _RANKS.format(ranks=self._ranks, epochs=_EPOCHS),
        )
        self.config.write_text(text)

    def up(self) -> None:
        """`accrete cluster up`, on the head."""
        self.head.run([*_accrete(), "cluster", "up", "--config", str(self.config)])

    def upgrade(self) -> None:
        """Change a setting of the servers, and `accrete cluster up` again."""
        self.configure(watchers=64 + next(self._upgrades))
        self.up()

    def status(self) -> dict[str, Any]:
        """`accrete cluster status --json`."""
        said = self.head.run([*_accrete(), "cluster", "status", "--config", str(self.config), "--json"])
        found: dict[str, Any] = json.loads(said)
        return found

    def start_head(self) -> None:
        """`ray start --head`."""
        self.head.run(
            [*_ray(), "--head", "--port", str(_RAY_PORT), "--node-ip-address", self.head.address, "--num-cpus", "0"]
            + ["--include-dashboard", "false", "--redis-password", self.ray_store.password]
        )

    def add_node(self) -> Machine:
        """Make a machine, and `ray start` on it."""
        machine = self._machine()
        self.start_node(machine)
        self.nodes.append(machine)
        return machine

    def start_node(self, machine: Machine) -> None:
        """`ray start` on a machine, again where Ray's half a minute was not enough on a busy one."""
        head = f"{self.head.address}:{_RAY_PORT}"
        command = [*_ray(), "--address", head, "--node-ip-address", machine.address, "--num-cpus", "4"]
        try:
            machine.run(command)
        except RuntimeError:
            machine.run(command)

    def remove(self, machine: Machine) -> None:
        """Turn a machine off, for good."""
        self.nodes.remove(machine)
        machine.turn_off()

    def processes(self, mark: str) -> list[int]:
        """Return those of the nodes whose command line has `mark`."""
        return [pid for node in self.nodes for pid in node.pids(mark)]

    def members(self) -> dict[str, str]:
        """Return the state of each server by its address."""
        return {member.address: member.state for member in self.store.members.roster().members}

    def machine_of(self, pid: int) -> Machine:
        """Return the node that a process is on."""
        return next(node for node in self.nodes if pid in node.pids())

    def leader(self) -> Machine | None:
        """Return the node whose learner has the lease."""
        owner = self.store.lease_holder() or ""
        return next((node for node in self.nodes if re.match(rf"{node.name}\b", owner)), None)

    def client(self, timeout: float = 60.0) -> Client:
        """Return a client, which is given the addresses of all nodes."""
        return Client(",".join(f"{node.address}:{_PORT}" for node in self.nodes), timeout=timeout)

    def log(self) -> str:
        """Return the end of what all said."""
        files = sorted(self.folder.rglob("*.log")) + sorted(self.folder.rglob("worker-*.err"))
        return "\n".join(f"== {file}\n{file.read_text(errors='replace')[-2_000:]}" for file in files)

    def _machine(self) -> Machine:
        number = next(self._numbers)
        machine = Machine(
            self.network,
            self.folder / f"machine{number}",
            {self.data_dir.parent: "data"},
            self._environment,
        )
        self._stack.callback(machine.turn_off)
        return machine


@contextmanager
def place(folder: Path, nodes: int = NODES, ranks: int = 1) -> Iterator[Place]:
    """Yield a cluster that is up."""
    with ExitStack() as stack:
        made = Place(folder, stack, nodes, ranks)
        made.up()
        yield made
        with contextlib.suppress(RuntimeError):
            made.head.run([*_accrete(), "cluster", "down", "--config", str(made.config)])


def _accrete() -> list[str]:
    return [sys.executable, "-m", "accrete"]


def _ray() -> list[str]:
    program = os.path.join(os.path.dirname(sys.executable), "ray")
    return [program, "start", "--object-store-memory", "80000000", "--disable-usage-stats"]
