"""Two real redis-servers, one of which is the other's replica, behind an address that changes hands."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from benchmarks.waiting import free_port, until

SETTINGS = ["--save", "", "--appendonly", "yes", "--appendfsync", "always", "--repl-diskless-sync-delay", "0"]


class Node:
    """One redis-server, on a port for its replicas and at a socket."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.port = free_port()
        self.socket = folder / "s"
        arguments = ["--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", str(self.socket)]
        command = ["redis-server", *arguments, "--dir", str(folder), *SETTINGS]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        self.client = redis.Redis(unix_socket_path=str(self.socket))
        until(self._answers)

    def follow(self, other: Node) -> None:
        """Become the other's replica, and return once it has all of it."""
        self.client.replicaof("127.0.0.1", str(other.port))
        until(lambda: self.client.info("replication").get("master_link_status") == "up")

    def caught_up(self, other: Node) -> None:
        """Return once it has what the other has written by now."""
        written = other.client.info("replication")["master_repl_offset"]
        until(lambda: self.client.info("replication")["slave_repl_offset"] >= written)

    def promote(self) -> None:
        self.client.replicaof("NO", "ONE")

    def end(self) -> None:
        self.client.close()
        self.process.kill()
        self.process.wait()

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.ConnectionError:
            return False


class Address:
    """What stands for a name, or a virtual address, that leads to one server or another."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def url(self) -> str:
        return f"unix://{self._path}"

    def lead_to(self, node: Node) -> None:
        new = self._path.with_suffix(".new")
        new.symlink_to(node.socket)
        os.replace(new, self._path)


@contextmanager
def primary_and_replica(folder: Path) -> Iterator[tuple[Node, Node, Address]]:
    """Start both, with the address leading to the primary. Skips where there is no redis-server."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not on the PATH")
    pair = Node(folder / "a"), Node(folder / "b")
    try:
        pair[1].follow(pair[0])
        address = Address(folder / "address")
        address.lead_to(pair[0])
        yield (*pair, address)
    finally:
        for node in pair:
            node.end()


def fail_over(old: Node, new: Node, address: Address) -> None:
    """Promote the replica once it has everything, and make the primary its replica, which keeps its connections."""
    new.caught_up(old)
    new.promote()
    address.lead_to(new)
    old.follow(new)
