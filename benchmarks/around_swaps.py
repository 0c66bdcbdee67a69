"""What a swap costs those who ask at that moment: latencies in the two seconds around each, at half of the peak's load.

A real node with a ResNet-32 on half of the machine's cores, the callers on the other half, calls sent at their own
times. Rounds with swaps and rounds without alternate: the worst of so many calls is above their p99 by itself.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.digits import scans_by_label
from benchmarks.halves import node_on_one_half
from benchmarks.lone_server import request
from benchmarks.node import Node
from benchmarks.open_loop import Outcome, Traffic, run
from benchmarks.report import Row, median_row

_IN_FLIGHT = 32
_WINDOW_S = 2.0
_PEAK_S = 3.0


@dataclass(kw_only=True)
class Found:
    """Milliseconds."""

    idle_p99: list[float] = field(default_factory=list)
    """A round without swaps."""
    calm: list[float] = field(default_factory=list)
    """Worst of a window of a round without swaps."""
    around: list[float] = field(default_factory=list)
    """Worst of a window around a swap."""
    swap: list[float] = field(default_factory=list)
    """From the call that activates to the live version."""
    failed: int = 0


def measure(folder: Path, settings: Mapping[str, str], *, rounds: int, swaps: int) -> list[Row]:
    """`rounds` times `swaps` swaps, one every two seconds."""
    with node_on_one_half(folder, _teach, settings) as (node, ours):
        return _rows(_rounds(node, folder, ours, rounds, swaps))


def _teach(node: Node) -> None:
    with node.ready() as client:
        scans = scans_by_label()
        for labels in ("01", "23"):
            report = client.add_examples((label, scan) for label in labels for scan in scans[label][:40])
            client.wait_learned(report.ids, timeout=120)
        client.pause()


def _rounds(node: Node, folder: Path, ours: set[int], rounds: int, swaps: int) -> Found:
    found = Found()
    seconds = swaps * _WINDOW_S

    traffic = partial(Traffic, address=node.address, request=str(request(folder, 1)))
    peaks = [run(traffic(in_flight=_IN_FLIGHT, seconds=_PEAK_S), ours).answered(0.5, _PEAK_S) for _ in range(3)]
    half = max(peaks) / 2
    for number in range(rounds):
        calm = run(traffic(rate=half, seconds=seconds, seed=number), ours)
        found.idle_p99.append(float(np.percentile(calm.latencies_ms("OK"), 99)))
        found.calm += [_worst(calm, (one + 0.5) * _WINDOW_S) for one in range(swaps)]
        moments: list[float] = []
        swapping = threading.Thread(target=_swap, args=(node, found, moments, swaps))
        swapping.start()
        busy = run(traffic(rate=half, seconds=seconds + _WINDOW_S, seed=number), ours)
        swapping.join()
        inside = [moment - busy.begun for moment in moments]
        found.around += [_worst(busy, at) for at in inside if _WINDOW_S / 2 <= at <= seconds + _WINDOW_S / 2]
        found.failed += sum(len(one.code) - one.count()["OK"] for one in (calm, busy))
    return found


def _swap(node: Node, found: Found, moments: list[float], count: int) -> None:
    """A swap in the middle of each window, beginning once the sender is surely at work."""
    with node.client() as client:
        versions = sorted(one.version for one in client.versions() if one.state == "ready")
        live = client.status().version
        time.sleep(1.5 * _WINDOW_S)
        for _ in range(count):
            started = time.perf_counter()
            live = next(version for version in versions if version != live)
            client.activate(live)
            ended = time.perf_counter()
            moments.append(ended)
            found.swap.append(1000 * (ended - started))
            time.sleep(max(0.0, started + _WINDOW_S - time.perf_counter()))


def _worst(outcome: Outcome, at: float) -> float:
    """Of the calls to be sent within a window around a moment after the start."""
    rows = zip(outcome.due, outcome.took, strict=True)
    return max((1000 * took for due, took in rows if abs(due - at) <= _WINDOW_S / 2), default=float("nan"))


def _rows(found: Found) -> list[Row]:
    idle = float(np.median(found.idle_p99))
    return [
        median_row("half the peak's rate, no swap: p99", found.idle_p99, "ms"),
        median_row("worst of two seconds without a swap, over that", [one / idle for one in found.calm], "x"),
        median_row("worst of two seconds around a swap, over that", [one / idle for one in found.around], "x", "<= 2"),
        median_row("a swap under this load", found.swap, "ms"),
        Row(name="swaps measured", value=len(found.around), unit=""),
        Row(name="calls that failed", value=found.failed, unit="", bound="<= 0"),
    ]
