"""Servers that share a store are restarted one after the other, and a client of both sees nothing of it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np

from accrete import AccreteError, AsyncClient, Client
from accrete_storage.embedded.server import socket_url
from benchmarks.digits import scans_by_label
from benchmarks.node import Node
from benchmarks.waiting import free_port, until
from tests.support.priority import FULL_PRIORITY

PAUSE_S = 0.02
"""Between two calls: enough of them meet a restart, and the processor is left to what restarts."""


def start_second(node: Node, port: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "accrete", "serve", "--config", node.config, "--data-dir", node.data_dir]
    command += ["--port", str(port), "--redis", socket_url(node.data_dir), *node.home]
    process = subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with Client(f"127.0.0.1:{port}", timeout=300) as client:
        client.wait_ready()
    return process


def back(node: Node, pid: int) -> bool:
    return node.pid("server") not in (None, pid)


def ask(address: str, image: np.ndarray, enough: threading.Event, seen: list[str], failed: list[str]) -> None:
    with Client(address, timeout=300) as client:
        while not enough.is_set():
            try:
                seen.append(client.predict(image).label)
            except AccreteError as error:
                failed.append(repr(error))
            time.sleep(PAUSE_S)


def ask_async(address: str, image: np.ndarray, enough: threading.Event, seen: list[str], failed: list[str]) -> None:
    async def work() -> None:
        async with AsyncClient(address, timeout=300) as client:
            while not enough.is_set():
                try:
                    seen.append((await client.predict(image)).label)
                except AccreteError as error:
                    failed.append(repr(error))
                await asyncio.sleep(PAUSE_S)

    asyncio.run(work())


def test_a_rolling_restart_fails_no_call_of_either_client(tmp_path: Path) -> None:
    node, port = Node(tmp_path, environment=FULL_PRIORITY), free_port()
    node.start()
    second = None
    try:
        scans = scans_by_label()
        with node.ready() as client:
            ids = client.add_examples((label, scan) for label in "01" for scan in scans[label][:40]).ids
            client.wait_learned(ids, timeout=300)
        second = start_second(node, port)
        both, enough = f"{node.address},127.0.0.1:{port}", threading.Event()
        counts: dict[str, tuple[list[str], list[str]]] = {"blocking": ([], []), "asyncio": ([], [])}
        threads = [
            threading.Thread(target=work, args=(both, scans["0"][50], enough, *counts[kind]))
            for kind, work in (("blocking", ask), ("asyncio", ask_async))
        ]
        for thread in threads:
            thread.start()
        try:
            for sent in (signal.SIGTERM, signal.SIGINT):
                second.send_signal(sent)
                assert second.wait(300) == 0
                second = start_second(node, port)
                first = node.pid("server")
                assert first is not None
                os.kill(first, signal.SIGTERM)
                until(partial(back, node, first), what="the first server again")
                with node.ready():
                    pass
        finally:
            enough.set()
            for thread in threads:
                thread.join()
        for kind, (seen, failed) in counts.items():
            assert failed == [], kind
            assert len(seen) > 50, kind
    finally:
        if second is not None:
            second.terminate()
            second.wait(300)
        node.stop()
