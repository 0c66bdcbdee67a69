"""A thousand swaps under load, and candidates that cannot serve: no failed Predict, flat memory, cost and latency.

Two versions, made by two steps, are made live by turns, each time by a real load, check, warm-up and swap.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import redis
from safetensors.numpy import load_file, save_file

from accrete import AccreteError, Client, Prediction
from accrete_model.artifact_store import ArtifactStore
from accrete_model.files import MANIFEST_FILE
from accrete_storage.embedded.server import socket_path
from accrete_storage.store import Store
from benchmarks.around_swaps import measure
from benchmarks.digits import scans_by_label
from benchmarks.node import Node, cpu_s, resident_bytes, side_by_side
from benchmarks.report import Row, arguments, machine, median_row, show
from benchmarks.variants import add_flags, by_turns

_ASKERS = 2
_TOLERANCE = 1e-4
_ENOUGH = 100
"""Fewer swaps say nothing of a slope: the allocator's own steps are megabytes."""


@dataclass(kw_only=True)
class Load:
    """What callers saw."""

    answers: Counter[int] = field(default_factory=Counter)
    """By version."""
    failed: list[str] = field(default_factory=list)
    mixed: list[str] = field(default_factory=list)
    """Answers that are not those of the version that they name."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The server's process at a moment."""

    at: int
    """Swaps or candidates done."""
    resident: int
    """Bytes."""
    cpu_s: float
    calls: int


def main() -> None:
    """Run the benchmark. The exit status is 1 when a bound is not kept."""
    parser = arguments(__doc__ or "")
    add_flags(parser)
    parsed = parser.parse_args()
    facts = machine()
    swaps, broken, rounds, of_one = (60, 12, 1, 5) if parsed.short else (1_000, 200, 10, 10)
    problems: list[str] = []

    def measured(folder: Path, settings: Mapping[str, str], parts: int) -> list[Row]:
        rows, load = run(folder / "load", settings, swaps=swaps // parts, broken=broken // parts)
        problems.extend((load.failed + load.mixed)[:10])
        return rows + measure(folder / "latency", settings, rounds=-(-rounds // parts), swaps=of_one)

    with tempfile.TemporaryDirectory(prefix="accrete-swaps-") as folder:
        rows = by_turns(parsed, Path(folder), measured)
    show(rows, facts, parsed.json)
    for problem in problems[:10]:
        print(f"  {problem}")
    raise SystemExit(any(row.ok is False for row in rows))


def run(folder: Path, settings: Mapping[str, str], *, swaps: int, broken: int) -> tuple[list[Row], Load]:
    """Run a node whose two versions are swapped and that is offered candidates that cannot serve, always under load."""
    folder.mkdir(exist_ok=True)
    node, load = Node(folder, settings={"learner.keep_versions": "20", **settings}), Load()
    node.start()
    try:
        with node.client() as client:
            image, expected = two_versions(client)
            asker = partial(ask, node, load, image, expected)
            with side_by_side(*[asker] * _ASKERS):
                seconds, samples = _swap(node, client, load, swaps)
                refused, offered = _offer(node, client, load, broken)
            serving = client.status().version
            client.unpin()
    finally:
        node.stop()
    rows = [
        Row(name="swaps", value=swaps, unit=""),
        Row(name="predictions", value=load.answers.total(), unit=""),
        Row(name="failed predictions", value=len(load.failed), unit="", bound="<= 0"),
        Row(name="answers that are not of the version they name", value=len(load.mixed), unit="", bound="<= 0"),
        median_row("from the call that activates to the live version", [1000 * one for one in seconds], "ms"),
        *_trend("swap", samples),
        Row(name="candidates that cannot serve", value=broken, unit=""),
        Row(name="of these made live", value=broken - refused, unit="", bound="<= 0"),
        *_trend("candidate", offered),
        Row(name="version that serves at the end", value=serving, unit="", bound=f"<= {max(expected)}"),
    ]
    return rows, load


def two_versions(client: Client) -> tuple[Any, dict[int, Prediction]]:
    """Learn two versions. Return an image and what each answers to it."""
    client.wait_ready(60)
    scans, expected = scans_by_label(), {}
    image = scans["0"][-1]
    for labels in ("01", "23"):
        report = client.add_examples((label, scan) for label in labels for scan in scans[label][:40])
        client.wait_learned(report.ids, timeout=120)
        answer = client.predict(image, top_k=1000)
        expected[answer.version] = answer
    client.pause()
    return image, expected


def ask(node: Node, load: Load, image: Any, expected: dict[int, Prediction], enough: threading.Event) -> None:
    with Client(node.address, timeout=30, retry=None) as client:
        while not enough.is_set():
            try:
                answer = client.predict(image, top_k=1000)
            except AccreteError as error:
                load.failed.append(repr(error))
                continue
            load.answers[answer.version] += 1
            if answer.version not in expected or not _same(answer, expected[answer.version]):
                load.mixed.append(repr(answer))
            time.sleep(0.002)


def _same(answer: Prediction, expected: Prediction) -> bool:
    """By what the version learned; while an older one is live, prototypes stand in for classes it does not know."""
    ours, theirs = _shares(answer), _shares(expected)
    return set(ours) == set(theirs) and all(abs(ours[label] - theirs[label]) < _TOLERANCE for label in ours)


def _shares(prediction: Prediction) -> dict[str, float]:
    learned = {one.label: one.probability for one in prediction.ranked if not one.provisional}
    return {label: probability / sum(learned.values()) for label, probability in learned.items()}


def _swap(node: Node, client: Client, load: Load, count: int) -> tuple[list[float], list[Sample]]:
    versions = sorted(one.version for one in client.versions() if one.state == "ready")
    seconds, samples = [], []
    for number in range(count):
        if number % max(1, count // 50) == 0:
            samples.append(_sample(node, load, number))
        started = time.perf_counter()
        client.activate(versions[number % len(versions)])
        seconds.append(time.perf_counter() - started)
    samples.append(_sample(node, load, count))
    return seconds, samples


def _offer(node: Node, client: Client, load: Load, count: int) -> tuple[int, list[Sample]]:
    """Make candidates of each kind that cannot serve active by turns. Return how many were refused."""
    kinds, refused, samples = list(BROKEN.values()), 0, []
    good = client.status().version
    with node.store() as store, redis.Redis(unix_socket_path=str(socket_path(node.data_dir))) as raw:
        for number in range(count):
            if number % max(1, count // 25) == 0:
                samples.append(_sample(node, load, number))
            candidate = _publish(node.data_dir, store, raw, good, kinds[number % len(kinds)])
            try:
                client.activate(candidate, timeout=60)
            except AccreteError:
                refused += client.status().version == good
            client.activate(good)
            store.registry.mark_retired(candidate)
            ArtifactStore(node.data_dir / "versions").remove(candidate)
    samples.append(_sample(node, load, count))
    return refused, samples


def _publish(data_dir: Path, store: Store, raw: redis.Redis, source: int, spoil: Callable[[Path, bool], None]) -> int:
    """Return a version as a learner publishes it, spoilt before its checksums are made or after."""
    artifacts, number = ArtifactStore(data_dir / "versions"), store.registry.next_version()
    candidate = data_dir / "work" / f"candidate-{number}"
    shutil.copytree(artifacts.path(source), candidate)
    (candidate / MANIFEST_FILE).unlink()
    spoil(candidate, False)
    digest = artifacts.publish(candidate, number)
    spoil(artifacts.path(number), True)
    record = replace(store.registry.version(source), version=number, digest=digest, consumed={}, step_id=f"b{number}")
    raw.hset(store.registry._keys.versions, str(number), record.to_json())
    return number


def _missing(folder: Path, published: bool) -> None:
    if published:
        (folder / "head.safetensors").unlink()


def _truncated(folder: Path, published: bool) -> None:
    if published:
        file = folder / "graph.onnx"
        file.write_bytes(file.read_bytes()[:-100])


def _tensor(name: str, key: str, change: Callable[[Any], Any]) -> Callable[[Path, bool], None]:
    def spoil(folder: Path, published: bool) -> None:
        if not published:
            tensors = load_file(folder / name)
            tensors[key] = change(tensors[key].copy())
            save_file(tensors, folder / name)

    return spoil


def _cannot_warm_up(folder: Path, published: bool) -> None:
    """Take batches of the golden check's size and of no other."""
    if not published:
        count = len(load_file(folder / "golden.safetensors")["input"])
        graph = onnx.load(folder / "graph.onnx")
        first = graph.graph.input[0].type.tensor_type.shape.dim[0]
        first.Clear()
        first.dim_value = count
        onnx.save(graph, folder / "graph.onnx")


BROKEN: dict[str, Callable[[Path, bool], None]] = {
    "a file is missing": _missing,
    "a file is cut": _truncated,
    "the head has another shape": _tensor("head.safetensors", "weight", lambda rows: rows[:, :-1].copy()),
    "weights are NaN": _tensor("head.safetensors", "weight", lambda rows: rows * np.float32("nan")),
    "golden outputs differ": _tensor("golden.safetensors", "features", lambda rows: rows + np.float32(1)),
    "the warm-up fails": _cannot_warm_up,
}


def _sample(node: Node, load: Load, at: int) -> Sample:
    pid = node.pid("server")
    if pid is None:
        raise RuntimeError("the server is gone")
    return Sample(at=at, resident=resident_bytes(pid), cpu_s=cpu_s(pid), calls=load.answers.total())


def _trend(what: str, samples: Sequence[Sample]) -> list[Row]:
    """Memory over the second half, where caches are full, and what a call costs: slopes with twice their errors."""
    half = samples[len(samples) // 2 :]
    enough = samples[-1].at >= _ENOUGH
    slope, error = _slope([one.at for one in half], [one.resident / 1024 for one in half])
    rows = [
        Row(name=f"resident memory at the start ({what}s)", value=samples[0].resident / 2**20, unit="MiB"),
        Row(name="resident memory at the end", value=samples[-1].resident / 2**20, unit="MiB"),
        # What cannot be told from no growth is none.
        Row(
            name=f"resident memory gained a {what}, second half",
            value=slope,
            unit="KiB",
            spread=(slope - 2 * error, slope + 2 * error),
            bound=f"<= {max(16.0, 2 * error):.4g}" if enough else "",
        ),
    ]
    rows.append(_cost(what, samples, enough))
    return rows


def _cost(what: str, samples: Sequence[Sample], enough: bool) -> Row:
    """Return what a call costs the server, as a slope over the whole, in percent of the mean."""
    costs = [(b.cpu_s - a.cpu_s) / max(1, b.calls - a.calls) for a, b in pairwise(samples)]
    slope, error = _slope([one.at for one in samples[1:]], costs)
    percent = 100 * samples[-1].at / max(float(np.mean(costs)), 1e-9)
    return Row(
        name=f"server CPU a call gained over all {what}s",
        value=slope * percent,
        unit="%",
        spread=((slope - 2 * error) * percent, (slope + 2 * error) * percent),
        bound=f"<= {max(20.0, 2 * error * percent):.4g}" if enough else "",
    )


def _slope(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """Least squares: slope and its standard error."""
    if len(x) < 3:
        return 0.0, 0.0
    moments = np.vander(np.asarray(x, float), 2)
    solution, residual, *_ = np.linalg.lstsq(moments, np.asarray(y, float), rcond=None)
    variance = float(residual[0]) / (len(x) - 2) if len(residual) else 0.0
    return float(solution[0]), float(np.sqrt(variance * np.linalg.inv(moments.T @ moments)[0, 0]))


if __name__ == "__main__":
    main()
