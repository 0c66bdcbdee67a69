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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.digits import scans_by_label
from benchmarks.halves import node_on_one_half
from benchmarks.lone_server import request
from benchmarks.node import Node, cpu_s
from benchmarks.open_loop import Outcome, Traffic, run
from benchmarks.report import Row, arguments, machine, median_row, show
from benchmarks.variants import add_flags, by_turns
from benchmarks.waiting import until

_IN_FLIGHT = 32
_SHARES = (50, 99, 99.9)
_TARGET_MS = 10
_EQUAL = {"learner.nice": "0", "learner.own_nice": "0"}
_SETTINGS = {"training.epochs": "100000", "training.batch_size": "128", "training.threads": "0"}


def main() -> None:
    """Run the benchmark. The exit status is 1 when a bound is not kept."""
    parser = arguments(__doc__ or "")
    add_flags(parser)
    parsed = parser.parse_args()
    facts = machine()
    rounds, seconds = (3, 3.0) if parsed.short else (12, 6.0)

    def measured(folder: Path, settings: Mapping[str, str], parts: int) -> list[Row]:
        return measure(folder, settings, rounds=-(-rounds // parts), seconds=seconds)

    with tempfile.TemporaryDirectory(prefix="accrete-isolation-") as folder:
        rows = by_turns(parsed, Path(folder), measured)
        if not parsed.short and not parsed.against:
            rows += measure_yielding(Path(folder), dict(parsed.set), rounds=rounds // 3, seconds=seconds)
    show(rows, facts, parsed.json)
    raise SystemExit(any(row.ok is False for row in rows))


@dataclass(kw_only=True)
class Found:
    """What the rounds on one node came to."""

    peak: float
    """Calls per second that it answers at most, the trainer stopped."""
    idle: list[Outcome] = field(default_factory=list)
    busy: list[Outcome] = field(default_factory=list)
    trained: list[float] = field(default_factory=list)
    """Cores that the trainer had."""


def measure(folder: Path, settings: Mapping[str, str], *, rounds: int, seconds: float) -> list[Row]:
    """Start a node, have it train, and measure it for `seconds` in each part of a round."""
    with _training(folder / "priority", settings) as at_work:
        found = _rounds(at_work, rounds, seconds)
    missed = _failed(found.idle)
    return [
        Row(name="peak, trainer stopped", value=found.peak, unit="/s"),
        median_row("cores that the trainer gets at half of it", found.trained, ""),
        *(row for share in _SHARES for row in _beside(found.idle, found.busy, share)),
        Row(name="calls not answered, trainer stopped", value=missed, unit=""),
        Row(name="calls not answered, a step trains", value=_failed(found.busy), unit="", bound=f"<= {missed}"),
    ]


def measure_yielding(folder: Path, settings: Mapping[str, str], *, rounds: int, seconds: float) -> list[Row]:
    """Return the same without the trainer's low priority, which does not count between containers.

    The second half has a target for the 99th percentile, too.
    """
    with _training(folder / "equal", {**settings, **_EQUAL}) as at_work:
        equal = _rounds(at_work, rounds, seconds)
    target = {"server.p99_target_ms": str(_TARGET_MS)}
    with _training(folder / "target", {**settings, **_EQUAL, **target}) as at_work:
        _busy_round(at_work, Found(peak=equal.peak), 0, seconds)  # until the trainer's share has settled
        yielding = Found(peak=equal.peak)
        for number in range(rounds):
            _busy_round(at_work, yielding, number, seconds)
    name = f"no priority, a target of {_TARGET_MS} ms"
    return [
        median_row("no priority: p99, trainer stopped", _percentiles(equal.idle, 99), "ms"),
        median_row("no priority: p99, a step trains", _percentiles(equal.busy, 99), "ms"),
        median_row("no priority: cores that the trainer gets", equal.trained, ""),
        median_row(f"{name}: p99", _percentiles(yielding.busy, 99), "ms"),
        median_row(f"{name}: cores", yielding.trained, ""),
    ]


@dataclass(frozen=True, kw_only=True)
class AtWork:
    """A node whose trainer trains a step without an end."""

    node: Node
    folder: Path
    trainer: int
    ours: set[int]
    """The callers' cores."""

    def traffic(self, seconds: float, **what: Any) -> Outcome:
        """Of single-image calls."""
        image = str(request(self.folder, 1))
        return run(Traffic(address=self.node.address, request=image, seconds=seconds, **what), self.ours)


@contextmanager
def _training(folder: Path, settings: Mapping[str, str]) -> Iterator[AtWork]:
    folder.mkdir()
    trainers: list[int] = []
    settings = {**_SETTINGS, **settings}
    with node_on_one_half(folder, lambda node: trainers.append(teach_endless_step(node)), settings) as (node, ours):
        yield AtWork(node=node, folder=folder, trainer=trainers[0], ours=ours)


def teach_endless_step(node: Node) -> int:
    """Teach two classes, then two more whose step never ends, and return the process that trains it, once it does."""
    with node.ready() as client:
        scans = scans_by_label()
        first = client.add_examples((label, scan) for label in "01" for scan in scans[label][:40])
        client.wait_learned(first.ids, timeout=120)
        client.add_examples((label, scan) for label in "23" for scan in scans[label])
        until(lambda: "training" in client.status().phase.lower(), what="the step")
    return int(until(lambda: node.pid("step"), what="the trainer"))


def _rounds(at_work: AtWork, rounds: int, seconds: float) -> Found:
    with _stopped(at_work.trainer):
        peaks = [at_work.traffic(seconds, in_flight=_IN_FLIGHT).answered(0.5, seconds) for _ in range(3)]
    found = Found(peak=statistics.median(peaks))
    for number in range(rounds):
        with _stopped(at_work.trainer):
            found.idle.append(at_work.traffic(seconds, rate=found.peak / 2, seed=number))
        _busy_round(at_work, found, number, seconds)
    return found


def _busy_round(at_work: AtWork, found: Found, number: int, seconds: float) -> None:
    before = cpu_s(at_work.trainer)
    found.busy.append(at_work.traffic(seconds, rate=found.peak / 2, seed=number))
    found.trained.append((cpu_s(at_work.trainer) - before) / seconds)


@contextmanager
def _stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _beside(idle: list[Outcome], busy: list[Outcome], share: float) -> list[Row]:
    before, after = _percentiles(idle, share), _percentiles(busy, share)
    ratios = [y / x for x, y in zip(before, after, strict=True)]
    return [
        median_row(f"p{share:g}, trainer stopped", before, "ms"),
        median_row(f"p{share:g}, a step trains", after, "ms"),
        median_row(f"p{share:g}, training over stopped", ratios, "x", "<= 1.3" if share == 99 else ""),
    ]


def _percentiles(outcomes: list[Outcome], share: float) -> list[float]:
    """Of the latencies of each, in milliseconds."""
    return [float(np.percentile(one.latencies_ms("OK"), share)) for one in outcomes]


def _failed(outcomes: list[Outcome]) -> int:
    return sum(len(one.code) - one.count()["OK"] for one in outcomes)


if __name__ == "__main__":
    main()
