"""Callers that each ask again as soon as they have an answer, or at times drawn beforehand; a process of its own.

One kind for gRPC and one for HTTP/1.1 with connections kept open; both send bytes that are ready and read no more of
the answer than that it is one.
"""

from __future__ import annotations

import http.client
import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Set
from dataclasses import asdict, dataclass
from pathlib import Path

import grpc


@dataclass(frozen=True, kw_only=True)
class Asking:
    """What to send, where and for how long."""

    address: str
    """HOST:PORT."""
    path: str
    """gRPC method, or path of the URL."""
    body: str
    """File of the bytes to send."""
    content_type: str
    """Of the body; "grpc" for gRPC."""
    callers: int
    """Of the open loop: calls under way at most, since each takes a connection."""
    seconds: float
    rate: float = 0.0
    """Other than 0: calls per second, each at its own time, whatever became of those before it."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """What came back."""

    answers: int
    """Within the time, after a first tenth of it."""
    since: float
    """When that began, by the clock that all processes share (`time.perf_counter`, on Linux)."""
    seconds: float
    failed: int
    latencies_ms: list[float]


def run(asking: Asking, cores: Set[int]) -> Told:
    """Ask from a process on these cores."""
    command = ["taskset", "-c", ",".join(map(str, sorted(cores)))]
    command += [sys.executable, "-m", "benchmarks.peers.callers", json.dumps(asdict(asking))]
    return Told(**json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))


def connect(asking: Asking) -> Callable[[], bool]:
    """Return a call of one caller's own, which returns whether it was answered."""
    body = Path(asking.body).read_bytes()
    if asking.content_type == "grpc":
        # A channel of its own: callers are applications that know nothing of each other.
        options = [("grpc.use_local_subchannel_pool", 1)]
        call = grpc.insecure_channel(asking.address, options=options).unary_unary(asking.path, None, None)

        def ask() -> bool:
            try:
                return bool(call(body, timeout=20))
            except grpc.RpcError:
                return False

        return ask
    host, _, port = asking.address.partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    headers = {"Content-Type": asking.content_type}

    def post() -> bool:
        connection.request("POST", asking.path, body, headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status == 200

    return post


def main() -> None:
    """Ask as the argument says, and print what was told as JSON."""
    asking = Asking(**json.loads(sys.argv[1]))
    begun = time.perf_counter()
    since, until = begun + asking.seconds / 10, begun + asking.seconds
    latencies: list[float] = []
    failed: list[float] = []

    lock = threading.Lock()
    draw = random.Random(1993)
    next_due = begun

    def due() -> float:
        """Return when the next call is to be sent: now, or in the open loop at the next of the times drawn."""
        nonlocal next_due
        if not asking.rate:
            return time.perf_counter()
        with lock:
            next_due += draw.expovariate(asking.rate)
            moment = next_due
        time.sleep(max(0.0, moment - time.perf_counter()))
        return moment

    def caller() -> None:
        ask = connect(asking)
        while (sent := due()) < until:
            answered = ask()
            now = time.perf_counter()
            if since <= now < until:
                (latencies if answered else failed).append(1000 * (now - sent))

    threads = [threading.Thread(target=caller) for _ in range(asking.callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told = Told(answers=len(latencies), since=since, seconds=until - since, failed=len(failed), latencies_ms=latencies)
    print(json.dumps(asdict(told)))


if __name__ == "__main__":
    main()
