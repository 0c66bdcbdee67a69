"""What a Predict call costs beside the bare ONNX Runtime call in it: processor time, images per second, memory, start.

A real server with a ResNet-32 on half of the machine's cores, as many calls computed at once; the callers are a process
on the other half. Processor time is the server's own, all threads, as the kernel counts it. The bare call runs on the
server's cores, in rounds interleaved with the server's.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import onnxruntime

from accrete import Client
from benchmarks.halves import halves
from benchmarks.lone_server import LoneServer, lone_server, noise, request
from benchmarks.open_loop import Traffic, run
from benchmarks.report import Row, arguments, machine, median_row, show

_CALLERS = 16
_IMAGES = 64
_CLASSES = (100, 1_000, 10_000)
_WARM_S = 0.3
"""At the start of each round, not counted."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one round."""

    rate: float
    """Calls per second."""
    cpu_ms: float
    """Processor time a call."""


class Bare:
    """The graph in ONNX Runtime and nothing around it, on as many threads as the server computes on."""

    def __init__(self, graph: Path, cores: set[int]) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        self._cores = cores

    def cost(self, images: int, seconds: float) -> Cost:
        """Return one round of calls with as many images."""
        with ThreadPoolExecutor(len(self._cores), initializer=os.sched_setaffinity, initargs=(0, self._cores)) as pool:
            found = list(pool.map(lambda _: self._calls(images, seconds), self._cores))
        rate = sum(one.rate for one in found)
        return Cost(rate=rate, cpu_ms=sum(one.cpu_ms * one.rate for one in found) / rate)

    def _calls(self, images: int, seconds: float) -> Cost:
        batch = noise(images)
        for _ in range(2):
            self._session.run(None, {"input": batch})
        calls, began, cpu = 0, time.perf_counter(), time.thread_time()
        while (taken := time.perf_counter() - began) < seconds:
            self._session.run(None, {"input": batch})
            calls += 1
        return Cost(rate=calls / taken, cpu_ms=1000 * (time.thread_time() - cpu) / calls)


class Served:
    """The same through the server."""

    def __init__(self, server: LoneServer, folder: Path, cores: set[int]) -> None:
        self._server = server
        self._folder = folder
        self._cores = cores

    def cost(self, images: int, seconds: float) -> Cost:
        """Return one round with 16 callers, each of which calls again when it is answered."""
        traffic = Traffic(
            address=self._server.address,
            request=str(request(self._folder, images)),
            rate=0.0,
            in_flight=_CALLERS,
            seconds=seconds + _WARM_S,
            deadline_s=60.0,
        )
        before = self._server.cpu_s()
        outcome = run(traffic, self._cores)
        cpu_s = self._server.cpu_s() - before
        if set(outcome.code) != {"OK"}:
            raise RuntimeError(f"not all calls were answered: {outcome.count()}")
        ends = sorted(due + took for due, took in zip(outcome.due, outcome.took, strict=True))
        counted = [end for end in ends if _WARM_S <= end <= seconds + _WARM_S]
        return Cost(rate=(len(counted) - 1) / (counted[-1] - counted[0]), cpu_ms=1000 * cpu_s / len(ends))


def main() -> None:
    """Run the benchmark. The exit status is 1 when a bound is not kept."""
    parsed = arguments(__doc__ or "").parse_args()
    facts = machine()
    rounds, seconds = (3, 1.5) if parsed.short else (9, 3.0)
    with tempfile.TemporaryDirectory(prefix="accrete-serving-") as folder:
        rows = measure(Path(folder), rounds=rounds, seconds=seconds)
    show(rows, facts, parsed.json)
    raise SystemExit(any(row.ok is False for row in rows))


def measure(folder: Path, *, rounds: int, seconds: float) -> list[Row]:
    """Start a server and measure it for `seconds` in each cell of a round."""
    theirs, ours = halves()
    starts = []
    for number in range(3):
        with lone_server(folder / f"start-{number}", theirs) as server:
            starts.append(server.ready_s)
    with lone_server(folder, theirs, _CLASSES) as server:
        rows = [
            median_row("server: from its start to its first answer", starts, "s", "<= 2"),
            Row(name="server: PyTorch loaded", value=server.has_torch(), unit="", bound="<= 0"),
        ]
        served, bare = Served(server, folder, ours), Bare(server.graph, theirs)
        served.cost(1, seconds)  # the first calls are slower than those that follow
        for images in (1, _IMAGES):
            rows += _beside(served, bare, images, rounds, seconds)
        rows += _by_classes(server, served, rounds, seconds)
        resident = server.resident() / 2**20
        rows.append(Row(name="server: resident after all this", value=resident, unit="MiB", bound="<= 250"))
    return rows


def _beside(served: Served, bare: Bare, images: int, rounds: int, seconds: float) -> list[Row]:
    pairs = [(served.cost(images, seconds), bare.cost(images, seconds)) for _ in range(rounds)]
    cpu_bound, rate_bound = ("<= 1.35", "") if images == 1 else ("", ">= 0.95")
    name = f"{images} image{'s' if images > 1 else ''} a call"
    return [
        median_row(f"{name}: ONNX Runtime alone, CPU", [one.cpu_ms for _, one in pairs], "ms"),
        median_row(f"{name}: server, CPU", [one.cpu_ms for one, _ in pairs], "ms"),
        median_row(f"{name}: CPU, server over ONNX Runtime", _ratios(pairs, "cpu_ms"), "x", cpu_bound),
        median_row(f"{name}: ONNX Runtime alone", [one.rate * images for _, one in pairs], "images/s"),
        median_row(f"{name}: server, {_CALLERS} callers", [one.rate * images for one, _ in pairs], "images/s"),
        median_row(f"{name}: images/s, server over ONNX Runtime", _ratios(pairs, "rate"), "x", rate_bound),
    ]


def _ratios(pairs: Sequence[tuple[Cost, Cost]], field: str) -> list[float]:
    return [getattr(one, field) / getattr(other, field) for one, other in pairs]


def _by_classes(server: LoneServer, served: Served, rounds: int, seconds: float) -> list[Row]:
    found: dict[int, list[float]] = {count: [] for count in _CLASSES}
    with Client(server.address, timeout=30) as client:
        for _ in range(rounds):
            for version, count in enumerate(_CLASSES, 1):
                client.activate(version)
                found[count].append(served.cost(1, seconds).cpu_ms)
        client.activate(1)
    rows = [median_row(f"{count} classes: server, CPU a call", values, "ms") for count, values in found.items()]
    fewest = found[_CLASSES[0]]
    for count in _CLASSES[1:]:
        ratios = [one / other for one, other in zip(found[count], fewest, strict=True)]
        rows.append(median_row(f"{count} classes over {_CLASSES[0]}: CPU a call", ratios, "x", "<= 1.2"))
    return rows


if __name__ == "__main__":
    main()
