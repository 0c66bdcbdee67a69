"""Sends calls at their own times, whatever becomes of those before: as many callers do who do not know of each other.

A process of its own (`python -m benchmarks.open_loop SPEC`), so that neither its interpreter nor, where there are cores
enough, its core is the server's. Latency counts from when a call was to be sent, so that a late sender hides nothing.
"""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from accrete.v1 import prediction_pb2

METHOD = f"/{prediction_pb2.DESCRIPTOR.services_by_name['Prediction'].full_name}/Predict"


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """What to send."""

    address: str
    request: str
    """File of a serialised PredictRequest."""
    seconds: float
    rate: float = 0.0
    """Calls per second; the pauses between them are exponential."""
    in_flight: int = 0
    """Other than 0: instead of at a rate, a call is sent whenever fewer are under way."""
    pause_s: float = 0.0
    """How long, with `in_flight`, a caller waits after a call that was not answered."""
    connections: int = 1
    """Over which calls go by turns; with `in_flight`, each has its share of them."""
    certificate: str = ""
    """File of the certificate that the server's is checked by; empty: nothing is encrypted."""
    deadline_s: float = 10.0
    hasty: float = 0.0
    """Share of calls whose caller does not wait that long: half of them by a deadline, half by cancelling."""
    patience_s: float = 0.0
    """How long these callers wait."""
    seed: int = 1993


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of the calls, in the order in which they were to be sent."""

    due: list[float]
    """Seconds after the start at which each was to be sent."""
    late: list[float]
    """Seconds after that at which it was."""
    took: list[float]
    """Seconds from `due` to its end."""
    code: list[str]
    hasty: list[bool]
    cpu_s: float
    """Processor time of the sender."""
    begun: float
    """The start, by the clock that never goes back and that all processes share (`time.perf_counter`, on Linux)."""

    def count(self) -> Counter[str]:
        """Return calls by code."""
        return Counter(self.code)

    def answered(self, since: float, until: float) -> float:
        """Return answers per second between two moments after the start."""
        ends = (due + took for due, took, code in zip(self.due, self.took, self.code, strict=True) if code == "OK")
        return sum(since <= end < until for end in ends) / (until - since)

    def latencies_ms(self, code: str, since: float = 0.0) -> list[float]:
        """Of the calls to be sent after `since` that ended so."""
        rows = zip(self.due, self.took, self.code, strict=True)
        return [1000 * took for due, took, ended in rows if ended == code and due >= since]


def run(traffic: Traffic, cores: Set[int]) -> Outcome:
    """Send the traffic from a process on these cores, until each call has ended."""
    command = ["taskset", "-c", ",".join(map(str, sorted(cores)))]
    command += [sys.executable, "-m", "benchmarks.open_loop", json.dumps(asdict(traffic))]
    return Outcome(**json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))


class _Sender:
    """Pure sending of bytes that are ready; it has to cost less than the server that it is to overload."""

    def __init__(self, traffic: Traffic) -> None:
        draw = np.random.default_rng(traffic.seed)
        count = draw.poisson(traffic.rate * traffic.seconds)
        self.due = np.sort(draw.random(count) * traffic.seconds).tolist()
        self.hasty = (draw.random(count) < traffic.hasty).tolist()
        self.late, self.took, self.code = [0.0] * count, [0.0] * count, [""] * count
        self.begun = 0.0
        self._traffic = traffic
        self._cancels = (draw.random(count) < 0.5).tolist()

    def run(self) -> None:
        """Send everything, and return when every call has ended."""
        request = Path(self._traffic.request).read_bytes()
        with contextlib.ExitStack() as channels:
            calls = []
            for _ in range(self._traffic.connections):
                channel = channels.enter_context(_channel(self._traffic))
                calls.append(channel.unary_unary(METHOD, None, None))
                grpc.channel_ready_future(channel).result(20)
            (self._keep_busy if self._traffic.in_flight else self._send)(calls, request)
            while not all(self.code):
                time.sleep(0.01)

    def _keep_busy(self, calls: Sequence[Any], request: bytes) -> None:
        free: queue.SimpleQueue[Any] = queue.SimpleQueue()
        pausing: queue.SimpleQueue[tuple[float, Any]] = queue.SimpleQueue()
        for number in range(self._traffic.in_flight):
            free.put(calls[number % len(calls)])
        begun = self.begun = time.perf_counter()

        def next_one(done: Any, call: Any) -> None:
            if self._traffic.pause_s and done.code() is not grpc.StatusCode.OK:
                pausing.put((time.perf_counter() + self._traffic.pause_s, call))
            else:
                free.put(call)

        def pause() -> None:
            while True:
                until, call = pausing.get()  # all pauses have one length, so that the first is over first
                _sleep_until(until)
                free.put(call)

        threading.Thread(target=pause, daemon=True).start()

        while (call := free.get()) and (now := time.perf_counter() - begun) < self._traffic.seconds:
            index = len(self.due)
            self.due.append(now)
            self.late.append(0.0)
            self.took.append(0.0)
            self.code.append("")
            self.hasty.append(False)
            future = call.future(request, timeout=self._traffic.deadline_s)
            future.add_done_callback(lambda done, index=index, at=begun + now: self._ended(done, index, at))
            future.add_done_callback(partial(next_one, call=call))

    def _send(self, calls: Sequence[Any], request: bytes) -> None:
        patience = self._traffic.patience_s
        cancels: list[tuple[float, Any]] = []
        begun = self.begun = time.perf_counter() + 0.1
        for index, due in enumerate(self.due):
            while cancels and cancels[0][0] <= due:
                moment, future = cancels.pop(0)
                _sleep_until(begun + moment)
                future.cancel()
            _sleep_until(begun + due)
            self.late[index] = time.perf_counter() - begun - due
            by_deadline = self.hasty[index] and not self._cancels[index]
            call = calls[index % len(calls)]
            future = call.future(request, timeout=patience if by_deadline else self._traffic.deadline_s)
            future.add_done_callback(lambda done, index=index, at=begun + due: self._ended(done, index, at))
            if self.hasty[index] and self._cancels[index]:
                cancels.append((due + patience, future))
        for moment, future in cancels:
            _sleep_until(begun + moment)
            future.cancel()

    def _ended(self, future: Any, index: int, due: float) -> None:
        self.took[index] = time.perf_counter() - due
        self.code[index] = future.code().name


def _channel(traffic: Traffic) -> grpc.Channel:
    """Return a channel with a connection of its own."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    if not traffic.certificate:
        return grpc.insecure_channel(traffic.address, options)
    credentials = grpc.ssl_channel_credentials(Path(traffic.certificate).read_bytes())
    return grpc.secure_channel(traffic.address, credentials, options)


def _sleep_until(moment: float) -> None:
    left = moment - time.perf_counter()
    if left > 0:
        time.sleep(left)


def main() -> None:
    """Send what the argument says, and print the outcome as JSON."""
    sender = _Sender(Traffic(**json.loads(sys.argv[1])))
    sender.run()
    outcome = Outcome(
        due=sender.due,
        late=sender.late,
        took=sender.took,
        code=sender.code,
        hasty=sender.hasty,
        cpu_s=time.process_time(),
        begun=sender.begun,
    )
    print(json.dumps(asdict(outcome)))


if __name__ == "__main__":
    main()
