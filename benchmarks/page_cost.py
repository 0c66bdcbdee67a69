"""What the page costs: processor time of the server and of the page, and latency of Predict, with tabs open or none.

A server of 100 classes answers single images, sent at their own times, from one core; the page and the callers
have the others. The tabs are open streams, read as a browser reads them. Since calls come in, what the page shows
changes all the time, so that each tab is sent the state every two seconds.
"""

from __future__ import annotations

import os
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from accrete_page.live import LINGER_S
from benchmarks.lone_server import LoneServer, lone_server, request
from benchmarks.node import cpu_s, resident_bytes, side_by_side
from benchmarks.open_loop import Outcome, Traffic, run
from benchmarks.report import Row, arguments, machine, median_row, show

_TABS = (0, 1, 10)
_RATE = 30.0
"""Calls per second."""


def main() -> None:
    """Run the benchmark. The exit status is 1 when a bound is not kept."""
    parsed = arguments(__doc__ or "").parse_args()
    facts = machine()
    rounds, seconds = (3, 4.0) if parsed.short else (8, 12.0)
    with tempfile.TemporaryDirectory(prefix="accrete-page-") as folder:
        rows = measure(Path(folder), rounds=rounds, seconds=seconds)
    show(rows, facts, parsed.json)
    raise SystemExit(any(row.ok is False for row in rows))


def measure(folder: Path, *, rounds: int, seconds: float) -> list[Row]:
    """Measure `seconds` with each number of tabs in a round, in another order each time."""
    cores = sorted(os.sched_getaffinity(0))
    image, draw = str(request(folder, 1)), np.random.default_rng(1993)
    latency: dict[int, list[float]] = {count: [] for count in _TABS}
    server_s: dict[int, list[float]] = {count: [] for count in _TABS}
    page_s: dict[int, list[float]] = {count: [] for count in _TABS}
    received: list[float] = []
    with lone_server(folder, {cores[0]}) as server, _page(server) as (page, address):
        traffic = Traffic(address=server.address, request=image, seconds=seconds, rate=_RATE)
        run(traffic, {*cores[1:]} or {cores[0]})  # the first calls are slower than those that follow
        for _ in range(rounds):
            for count in draw.permutation(_TABS).tolist():
                with tabs(address, count) as read:
                    time.sleep(1.0 if count else LINGER_S + 1.0)  # the stream outlives the last tab for a while
                    before, bytes_before = (server.cpu_s(), cpu_s(page)), read[0]
                    started = time.perf_counter()
                    outcome = run(traffic, {*cores[1:]} or {cores[0]})
                    minutes = (time.perf_counter() - started) / 60
                    server_s[count].append((server.cpu_s() - before[0]) / minutes)
                    page_s[count].append((cpu_s(page) - before[1]) / minutes)
                    if count:
                        received.append((read[0] - bytes_before) / count / minutes / 1000)
                latency[count].append(_p99(outcome))
        resident = resident_bytes(page) / 2**20
    rows = []
    for count in _TABS:
        name = f"{count} tab{'' if count == 1 else 's'}"
        rows += [
            median_row(f"{name}: processor time of the server", server_s[count], "s/min"),
            median_row(f"{name}: processor time of the page", page_s[count], "s/min"),
            median_row(f"{name}: Predict p99", latency[count], "ms"),
        ]
        if count:
            ratios = [with_tabs / none for with_tabs, none in zip(latency[count], latency[0], strict=True)]
            rows.append(median_row(f"{name}: Predict p99 over that without", ratios, "x"))
    return [
        *rows,
        Row(name="sent to a tab", value=statistics.median(received), unit="KB/min"),
        Row(name="page: resident", value=resident, unit="MiB"),
    ]


def _p99(outcome: Outcome) -> float:
    return float(np.percentile(outcome.latencies_ms("OK"), 99))


@contextmanager
def _page(server: LoneServer) -> Iterator[tuple[int, str]]:
    """Start a page of the server, and yield its process and address."""
    command = [sys.executable, "-m", "accrete", "page", "--address", server.address, "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.pid, process.stdout.readline().rpartition(" ")[2].strip()
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def tabs(address: str, count: int) -> Iterator[list[int]]:
    """Have as many tabs open, and yield how many bytes have come to all of them."""
    where = urlsplit(address)
    received = [0]
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        for _ in range(count):
            tab = stack.enter_context(socket.create_connection((where.hostname, where.port)))
            tab.sendall(f"GET /api/events HTTP/1.1\r\nHost: {where.netloc}\r\n\r\n".encode())
            selector.register(tab, selectors.EVENT_READ)

        def read(enough: threading.Event) -> None:
            while not enough.is_set():
                for key, _ in selector.select(0.2) if count else ():
                    received[0] += len(key.fileobj.recv(1 << 20))  # type: ignore[union-attr]

        stack.enter_context(side_by_side(*([read] if count else [])))
        yield received


if __name__ == "__main__":
    main()
