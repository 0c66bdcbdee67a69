"""What training costs those who ask meanwhile: latency of Predict at half of the peak's load, with a step and without.

A real node with a ResNet-32 on half of the machine's cores: store, server, learner and trainer share them, and the
trainer may use all of them. The callers are a process on the other half; calls are sent at their own times. One long
step trains throughout: for the idle rounds its process is stopped and then let go on, so that the two kinds alternate.
"""

from __future__ import annotations

import os
import signal
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.halves import node_on_one_half
from benchmarks.lone_server import request
from benchmarks.node import Node, cpu_s, digits, until
from benchmarks.open_loop import Outcome, Traffic, run
from benchmarks.report import Row, arguments, machine, median_row, show

_IN_FLIGHT = 32
_SHARES = (50, 99, 99.9)
_SETTINGS = {"training.epochs": "100000", "training.batch_size": "128", "training.threads": "0"}


def main() -> None:
    """Runs it; exit status 1 when a bound is not kept."""
    parsed = arguments(__doc__ or "").parse_args()
    facts = machine()
    rounds, seconds = (3, 3.0) if parsed.short else (12, 6.0)
    with tempfile.TemporaryDirectory(prefix="accrete-isolation-") as folder:
        rows = measure(Path(folder), rounds=rounds, seconds=seconds)
    show(rows, facts, parsed.json)
    raise SystemExit(any(row.ok is False for row in rows))


def measure(folder: Path, *, rounds: int, seconds: float) -> list[Row]:
    """Starts a node, has it train, and measures it; `seconds` for each part of a round."""
    trainers: list[int] = []
    with node_on_one_half(folder, lambda node: trainers.append(_teach(node)), _SETTINGS) as (node, ours):
        return _rounds(node, folder, trainers[0], ours, rounds, seconds)


def _teach(node: Node) -> int:
    """The process that trains a step without an end."""
    with node.client() as client:
        client.wait_ready(60)
        scans = digits()
        first = client.add_examples((label, scan) for label in "01" for scan in scans[label][:40])
        client.wait_learned(first.ids, timeout=120)
        client.add_examples((label, scan) for label in "23" for scan in scans[label])
        until(lambda: "training" in client.status().phase.lower(), what="the step")
    return int(until(lambda: node.pid("trainer"), what="the trainer"))


def _rounds(node: Node, folder: Path, trainer: int, ours: set[int], rounds: int, seconds: float) -> list[Row]:
    traffic = partial(Traffic, address=node.address, request=str(request(folder, 1)), seconds=seconds)
    idle: list[Outcome] = []
    busy: list[Outcome] = []
    trained: list[float] = []
    with _stopped(trainer):
        peak = statistics.median(run(traffic(in_flight=_IN_FLIGHT), ours).answered(0.5, seconds) for _ in range(3))
    for number in range(rounds):
        with _stopped(trainer):
            idle.append(run(traffic(rate=peak / 2, seed=number), ours))
        before = cpu_s(trainer)
        busy.append(run(traffic(rate=peak / 2, seed=number), ours))
        trained.append((cpu_s(trainer) - before) / seconds)
    return [
        Row(name="peak, trainer stopped", value=peak, unit="/s"),
        median_row("cores that the trainer gets at half of it", trained, ""),
        *(row for share in _SHARES for row in _beside(idle, busy, share)),
        Row(name="calls not answered, trainer stopped", value=_failed(idle), unit=""),
        Row(name="calls not answered, a step trains", value=_failed(busy), unit="", bound=f"<= {_failed(idle)}"),
    ]


@contextmanager
def _stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _beside(idle: list[Outcome], busy: list[Outcome], share: float) -> list[Row]:
    before, after = ([float(np.percentile(one.latencies_ms("OK"), share)) for one in kind] for kind in (idle, busy))
    ratios = [y / x for x, y in zip(before, after, strict=True)]
    return [
        median_row(f"p{share:g}, trainer stopped", before, "ms"),
        median_row(f"p{share:g}, a step trains", after, "ms"),
        median_row(f"p{share:g}, training over stopped", ratios, "x", "<= 1.3" if share == 99 else ""),
    ]


def _failed(outcomes: list[Outcome]) -> int:
    return sum(len(one.code) - one.count()["OK"] for one in outcomes)


if __name__ == "__main__":
    main()
