"""More calls than the server can hold: what is answered, how fast the rest is refused, and what is left of it after.

A real node with a ResNet-32, kept to half of the machine's cores; the sender has the other half. Rounds of the peak (so
many calls in flight that the server never rests) and of calls at 1, 2 and 3 times that rate, sent at their own times,
are interleaved. Calls of one image are the hardest: what a refusal costs is the larger part of what an answer does.
"""

from __future__ import annotations

import json
import tempfile
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.digits import scans_by_label
from benchmarks.halves import node_on_one_half
from benchmarks.lone_server import request
from benchmarks.node import Node, cpu_s, resident_bytes, side_by_side
from benchmarks.open_loop import Outcome, Traffic, run
from benchmarks.report import Row, arguments, machine, median_row, show
from benchmarks.variants import add_flags, by_turns

_IMAGES = (1, 8)
_GOODPUT = {1: ">= 0.86", 8: ">= 0.9"}
"""What is to be left of the peak at the highest rate, by the images of a call."""
"""In one call."""
_IN_FLIGHT = 32
"""Calls at the peak: enough to keep the server at work, and within its line."""
_TIMES = (1, 2, 3)
_PATIENCE_S = 0.05
"""Of callers in a hurry: less than the line is long under overload, so that they give up in it."""
_UNDER_WAY = 20
"""Percent of those who give up that may do so while their call is being computed, which takes some milliseconds of the
50. Were calls computed that nobody waits for, it would be all of them."""


@dataclass(kw_only=True)
class Found:
    """What the rounds found for calls of one size; a value a round in each list."""

    peak: list[float] = field(default_factory=list)
    """Answers per second; the better of before and after the overload, since a busy machine may hide it."""
    peak_cpu_s: list[float] = field(default_factory=list)
    """Of the server's processor, an answer."""
    calm: list[Outcome] = field(default_factory=list)
    """Half the peak's rate, before the overload."""
    loaded: dict[int, list[Outcome]] = field(default_factory=lambda: {times: [] for times in _TIMES})
    loaded_cpu_s: dict[int, list[float]] = field(default_factory=lambda: {times: [] for times in _TIMES})
    after: list[Outcome] = field(default_factory=list)
    """Half the peak's rate, right after the overload."""
    hasty: list[Outcome] = field(default_factory=list)
    """Three times the peak's rate, a third of the callers in a hurry."""
    unasked: list[float] = field(default_factory=list)
    """Calls computed then whose answer no caller got."""
    resident: list[int] = field(default_factory=list)
    """Bytes of the server, at any time."""


@dataclass(frozen=True, kw_only=True)
class _Run:
    """One round's circumstances."""

    node: Node
    images: int
    request: Path
    seconds: float
    seed: int
    cores: set[int]

    def peak(self) -> tuple[float, float]:
        """Return answers per second, and seconds of the server's processor for each."""
        outcome, spent_s = self.send(0.0, in_flight=_IN_FLIGHT)
        return outcome.answered(0.2, self.seconds), spent_s / max(1, outcome.count()["OK"])

    def send(self, rate: float, *, hasty: float = 0.0, in_flight: int = 0) -> tuple[Outcome, float]:
        """Send traffic. Return its outcome and the seconds of the server's processor meanwhile."""
        traffic = Traffic(
            address=self.node.address,
            request=str(self.request),
            rate=rate,
            in_flight=in_flight,
            seconds=self.seconds,
            deadline_s=10.0,
            hasty=hasty,
            patience_s=_PATIENCE_S,
            seed=self.seed,
        )
        server = self.node.pid("server") or 0
        before = cpu_s(server)
        outcome = run(traffic, self.cores)
        return outcome, cpu_s(server) - before


def main() -> None:
    """Run the benchmark. The exit status is 1 when a bound is not kept."""
    parser = arguments(__doc__ or "")
    add_flags(parser)
    parsed = parser.parse_args()
    facts = machine()
    rounds, seconds = (1, 2.0) if parsed.short else (5, 5.0)

    def measured(folder: Path, settings: Mapping[str, str], parts: int) -> list[Row]:
        return measure(folder / "node", settings, rounds=-(-rounds // parts), seconds=seconds)

    with tempfile.TemporaryDirectory(prefix="accrete-overload-") as folder:
        rows = by_turns(parsed, Path(folder), measured)
    show(rows, facts, parsed.json)
    raise SystemExit(any(row.ok is False for row in rows))


def measure(folder: Path, settings: Mapping[str, str], *, rounds: int, seconds: float) -> list[Row]:
    """Start a node and measure it for `seconds` at each rate of a round."""
    found = {images: Found() for images in _IMAGES}
    with node_on_one_half(folder, _teach, settings) as (node, ours):
        for number in range(rounds):
            for images in _IMAGES:
                file = request(folder, images)
                current = _Run(node=node, images=images, request=file, seconds=seconds, seed=number, cores=ours)
                if not number:
                    current.peak()  # the first is slower than those that follow
                with _watched(node, found[images]):
                    _round(current, found[images])
    return [row for images in _IMAGES for row in _rows(found[images], images, seconds)]


def _teach(node: Node) -> None:
    with node.ready() as client:
        scans = scans_by_label()
        report = client.add_examples((label, scan) for label in "01" for scan in scans[label][:40])
        client.wait_learned(report.ids, timeout=120)
        client.pause()


def _round(current: _Run, found: Found) -> None:
    peak, peak_cpu_s = current.peak()
    found.calm.append(current.send(peak / 2)[0])
    for times in _TIMES:
        outcome, spent_s = current.send(times * peak)
        found.loaded[times].append(outcome)
        found.loaded_cpu_s[times].append(spent_s / max(1, outcome.count()["OK"]))
    found.after.append(current.send(peak / 2)[0])
    before = _computed(current.node)
    outcome, _ = current.send(3 * peak, hasty=1 / 3)
    found.hasty.append(outcome)
    found.unasked.append((_computed(current.node) - before) / current.images - outcome.count()["OK"])
    again, again_cpu_s = current.peak()
    found.peak.append(max(peak, again))
    found.peak_cpu_s.append((peak_cpu_s + again_cpu_s) / 2)


def _computed(node: Node) -> float:
    """Return how many images the server has computed since it started, by its own count."""
    address = json.loads((node.data_dir / "server.json").read_text())["metrics"]
    text = str(urllib.request.urlopen(f"http://{address}/metrics", timeout=20).read(), "utf-8")
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return next(sample.value for sample in samples if sample.name == "accrete_images_total")


@contextmanager
def _watched(node: Node, found: Found) -> Iterator[None]:
    """Read the server's memory all the time."""
    pid = node.pid("server") or 0

    def watch(enough: threading.Event) -> None:
        while not enough.wait(0.1):
            found.resident.append(resident_bytes(pid))

    found.resident.append(resident_bytes(pid))
    with side_by_side(watch):
        yield


def _rows(found: Found, images: int, seconds: float) -> list[Row]:
    rows = [median_row(f"images a call: {images}; peak, {_IN_FLIGHT} calls in flight", found.peak, "/s")]
    for times in _TIMES:
        rows += _rate_rows(found, times, seconds, _GOODPUT[images] if times == max(_TIMES) else "")
    before, after = (_percentiles(outcomes, "OK", 50, 0.0) for outcomes in (found.calm, found.after))
    given_up = sum(one.count()["DEADLINE_EXCEEDED"] + one.count()["CANCELLED"] for one in found.hasty)
    computed = 100 * sum(found.unasked) / max(1, given_up)
    growth = (max(found.resident) - found.resident[0]) / 2**20
    return [
        *rows,
        median_row("half the peak's rate, before: answers, p50", before, "ms"),
        median_row("half the peak's rate, right after 3x: answers, p50", after, "ms"),
        median_row("after over before", [x / y for x, y in zip(after, before, strict=True)], "x", "<= 2"),
        Row(name="3x, some in a hurry: calls given up", value=given_up, unit=""),
        Row(name="of these computed", value=computed, unit="%", bound=f"<= {_UNDER_WAY}"),
        Row(name="memory gained at most", value=growth, unit="MiB", bound="<= 64"),
        Row(name="ends but answers and RESOURCE_EXHAUSTED", value=_odd(found), unit="", bound="<= 0"),
    ]


def _rate_rows(found: Found, times: int, seconds: float, goodput: str) -> list[Row]:
    """Of one rate, with the bound of its goodput. The first second is left out: it is the line filling up."""
    outcomes, since = found.loaded[times], min(1.0, seconds / 3)
    shares = [one.answered(since, seconds) / peak for one, peak in zip(outcomes, found.peak, strict=True)]
    costs = [mine / peak for mine, peak in zip(found.loaded_cpu_s[times], found.peak_cpu_s, strict=True)]
    refused = [100 * one.count()["RESOURCE_EXHAUSTED"] / len(one.code) for one in outcomes]
    late = [_percentile([1000 * late for late in one.late], 99) for one in outcomes]
    rows = [
        median_row(f"{times}x: goodput over the peak's", shares, "x", goodput),
        median_row(f"{times}x: server CPU an answer over the peak's", costs, "x"),
        median_row(f"{times}x: answers, p50", _percentiles(outcomes, "OK", 50, since), "ms"),
        median_row(f"{times}x: answers, p99", _percentiles(outcomes, "OK", 99, since), "ms"),
        median_row(f"{times}x: refused", refused, "%"),
        median_row(f"{times}x: the sender's own lateness in all this, p99", late, "ms"),
    ]
    if times == max(_TIMES):
        for share in (50, 99):
            took = _percentiles(outcomes, "RESOURCE_EXHAUSTED", share, since)
            rows.append(median_row(f"{times}x: refusals, p{share}", took, "ms", "<= 50"))
    return rows


def _percentiles(outcomes: Sequence[Outcome], code: str, share: float, since: float) -> list[float]:
    return [_percentile(one.latencies_ms(code, since), share) for one in outcomes]


def _percentile(values: Sequence[float], share: float) -> float:
    return float(np.percentile(values, share)) if values else float("nan")


def _odd(found: Found) -> int:
    patient = [*found.calm, *found.after, *(one for outcomes in found.loaded.values() for one in outcomes)]
    counts = sum((one.count() for one in patient), Counter[str]())
    return counts.total() - counts["OK"] - counts["RESOURCE_EXHAUSTED"]


if __name__ == "__main__":
    main()
