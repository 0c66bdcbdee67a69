"""What a Predict call costs beside the bare ONNX Runtime call in it: processor time, images per second, memory, start.

Real servers on half of the machine's cores, as many calls computed at once; the callers are a process on the others.
Processor time is the server's own, all threads, as the kernel counts it, between two moments at which calls go on all
the time. Each server in turn, round by round, the bare call among them and on the same cores: a ResNet-32 over one and
sixteen connections, encrypted, by one caller alone, and overloaded; a network that computes nothing; and photographs.
Where most of a call is gRPC, what its core takes alone is beside it.

    python -m benchmarks.serving --set server.front=queue --against server.front=handlers
    python -m benchmarks.serving --against-checkout ../before

has two servers of each kind, which differ in settings, or of which one is of another state of this project, by turns in
one run: every figure of both, and the second's over the first's.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import onnxruntime

from accrete import Client
from accrete.v1 import prediction_pb2, types_pb2
from accrete_learner import backbones
from accrete_learner.config import ModelConfig
from accrete_storage.config import StoreConfig
from benchmarks import photograph_files
from benchmarks.bare_queue import bare_queue
from benchmarks.cpu_watch import CpuWatch
from benchmarks.halves import halves, on
from benchmarks.lone_server import RESNET32, SHAPE, Build, LoneServer, lone_server, nothing, published, request, serving
from benchmarks.noise import noise
from benchmarks.open_loop import Outcome, Traffic, run
from benchmarks.report import Row, arguments, machine, median_row, show
from benchmarks.variants import add_flags, name_of

_CALLERS = 16
_IMAGES = 64
_CLASSES = (100, 1_000, 10_000)
_WARM_S = 0.3
"""At the start of each round, not counted."""
_PEAK = 32
"""Calls in flight at which the server never rests, and all have a place in its line."""
_TIMES = 3
"""Overload: calls at so many times the peak's rate, or so many times its callers."""
_PAUSE_S = 0.05
"""How long a caller of the closed loop waits who was refused."""
PHOTOGRAPHS = ModelConfig(backbone="efficientnet_lite0")
"""The preset's for photographs."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one round."""

    rate: float
    """Calls per second."""
    cpu_ms: float
    """Processor time a call."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One of the servers that are compared."""

    name: str
    """Before each of its rows; empty where there is one alone."""
    settings: Mapping[str, str]
    checkout: Path | None = None
    """The state of the project that it is of; None: this one."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One thing that is measured in each round."""

    name: str
    kind: str
    """Of the server that is asked: "plain", "tls", "nothing" or "photographs"."""
    body: str
    """Name of the request."""
    callers: int = _CALLERS
    connections: int = 1
    bare_images: int = 0
    """The bare call of so many images is measured beside it; 0: none."""
    over_bare: Callable[[float], str] = field(default=lambda bare_ms: "")
    """From the bare call's time in ms to what processor time over it should keep."""
    cpu_bound: str = ""
    """What a call's processor time in us should keep."""
    images: int = 1
    rate_bound: str = ""
    beside_core: bool = False
    """The least server there can be on gRPC's core is measured beside it."""


def _front(bare_ms: float) -> str:
    return "<= 1.15" if bare_ms >= 0.8 else "<= 1.2"


CELLS = (
    Cell(name="16 callers, one connection", kind="plain", body="1", bare_images=1, over_bare=_front),
    Cell(name="16 callers, 16 connections", kind="plain", body="1", connections=16, bare_images=1, over_bare=_front),
    Cell(name="TLS, one connection", kind="tls", body="1", bare_images=1, over_bare=lambda _: "<= 1.2"),
    Cell(name="TLS, 16 connections", kind="tls", body="1", connections=16, bare_images=1, over_bare=lambda _: "<= 1.2"),
    Cell(
        name="one caller alone",
        kind="plain",
        body="1",
        callers=1,
        bare_images=1,
        over_bare=lambda _: "<= 1.45",
        beside_core=True,
    ),
    Cell(
        name=f"{_IMAGES} images a call",
        kind="plain",
        body=str(_IMAGES),
        bare_images=_IMAGES,
        images=_IMAGES,
        rate_bound=">= 0.95",
    ),
    Cell(
        name="a network of nothing, 64 in flight",
        kind="nothing",
        body="1",
        callers=64,
        cpu_bound="<= 110",
        beside_core=True,
    ),
    Cell(
        name="a network of nothing, 64, 16 connections",
        kind="nothing",
        body="1",
        callers=64,
        connections=16,
        beside_core=True,
    ),
    Cell(name="a photograph of 500 pixels", kind="photographs", body="small", callers=4),
    Cell(name="a photograph of 12 million", kind="photographs", body="telephone", callers=4),
)


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
        batch = noise(images, SHAPE)
        for _ in range(2):
            self._session.run(None, {"input": batch})
        calls, began, cpu = 0, time.perf_counter(), time.thread_time()
        while (taken := time.perf_counter() - began) < seconds:
            self._session.run(None, {"input": batch})
            calls += 1
        return Cost(rate=calls / taken, cpu_ms=1000 * (time.thread_time() - cpu) / calls)


class Asked(Protocol):
    """A server that runs."""

    @property
    def address(self) -> str:
        """Where it is reached."""
        ...

    def cpu_s(self) -> float:
        """Return the processor time of all its threads so far."""
        ...


@dataclass(frozen=True, kw_only=True)
class Asker:
    """Asks servers from the cores that are not theirs."""

    bodies: Mapping[str, Path]
    certificate: Path
    cores: set[int]

    def cost(self, server: Asked, cell: Cell, seconds: float) -> Cost:
        """Return one round of a cell. Raises RuntimeError for a call that is not answered."""
        outcome, watch = self.send(server, cell, seconds + _WARM_S)
        if set(outcome.code) != {"OK"}:
            raise RuntimeError(f"{cell.name}: not all calls were answered: {outcome.count()}")
        ends = sorted(due + took for due, took in zip(outcome.due, outcome.took, strict=True))
        counted = [end for end in ends if _WARM_S <= end <= seconds + _WARM_S]
        first, last = counted[0], counted[-1]
        cpu_s = watch.between(outcome.begun + first, outcome.begun + last)
        return Cost(rate=(len(counted) - 1) / (last - first), cpu_ms=1000 * cpu_s / (len(counted) - 1))

    def send(
        self, server: Asked, cell: Cell, seconds: float, *, rate: float = 0.0, pause_s: float = 0.0
    ) -> tuple[Outcome, CpuWatch]:
        """Send a cell's calls, at a rate if one is given. Return what became of them, and the server's time."""
        traffic = Traffic(
            address=server.address,
            request=str(self.bodies[cell.body]),
            rate=rate,
            in_flight=0 if rate else cell.callers,
            pause_s=pause_s,
            connections=cell.connections,
            certificate=str(self.certificate) if cell.kind == "tls" else "",
            seconds=seconds,
            deadline_s=60.0,
        )
        watch = CpuWatch(server.cpu_s)
        with watch.watching():
            outcome = run(traffic, self.cores)
        return outcome, watch


@dataclass(kw_only=True)
class Found:
    """Of one variant; a value a round in each list, by the cell's name."""

    costs: dict[str, list[Cost]] = field(default_factory=dict)
    peak: list[float] = field(default_factory=list)
    """Answers per second."""
    open_loop: list[float] = field(default_factory=list)
    """Answers at `_TIMES` times the peak's rate, over the peak's."""
    closed_loop: list[float] = field(default_factory=list)
    """Answers to `_TIMES` times the peak's callers, over the peak's."""


def main() -> None:
    """Run the benchmark. The exit status is 1 when a bound is not kept."""
    parser = arguments(__doc__ or "")
    add_flags(parser)
    parser.add_argument("--against-checkout", type=Path, metavar="DIR", help="the second is of that checkout")
    parser.add_argument("--photographs", type=Path, metavar="DIR", help="one from there in place of a drawn one")
    parser.add_argument("--only", metavar="TEXT", default="", help="only what has this in its name")
    parsed = parser.parse_args()
    variants = [Variant(name="", settings=dict(parsed.set))]
    if parsed.against or parsed.against_checkout:
        names = [_name(parsed.set, None), _name(parsed.against, parsed.against_checkout)]
        second = dict(parsed.against) if parsed.against else dict(parsed.set)
        variants = [
            Variant(name=f"[{names[0]}] ", settings=dict(parsed.set)),
            Variant(name=f"[{names[1]}] ", settings=second, checkout=parsed.against_checkout),
        ]
    facts = machine()
    rounds, seconds = (3, 1.0) if parsed.short else (7, 2.0)
    theirs, ours = halves()
    with tempfile.TemporaryDirectory(prefix="accrete-serving-") as folder:
        rows = measure(
            Path(folder), variants, theirs, ours, parsed.photographs, parsed.only, rounds=rounds, seconds=seconds
        )
    show(rows, facts, parsed.json)
    raise SystemExit(any(row.ok is False for row in rows))


def measure(
    folder: Path,
    variants: Sequence[Variant],
    theirs: set[int],
    ours: set[int],
    photographs: Path | None,
    only: str,
    *,
    rounds: int,
    seconds: float,
) -> list[Row]:
    """Start servers and measure them for `seconds` in each cell of a round."""
    cells = [cell for cell in CELLS if only in cell.name]
    certificate = _certificate(folder)
    asker = Asker(bodies=_bodies(folder, photographs), certificate=certificate, cores=ours)
    overloads = only in "overload"
    rows = [] if only else _start(folder, theirs)
    with ExitStack() as stack:
        kinds = {cell.kind for cell in cells} | {"plain"}
        servers = stack.enter_context(_servers(folder, kinds, variants, theirs, certificate))
        stack.enter_context(on(ours))
        bare, core = Bare(servers[0]["plain"].graph, theirs), stack.enter_context(bare_queue(theirs))
        found = [Found() for _ in variants]
        alone: dict[str, list[Cost]] = {cell.name: [] for cell in cells}
        of_core: dict[str, list[Cost]] = {cell.name: [] for cell in cells}
        for kind in kinds - {"photographs"}:  # the first calls are slower than those that follow
            for of_one in servers:
                asker.cost(of_one[kind], Cell(name="warm", kind=kind, body="1"), seconds)
        for number in range(rounds):
            for cell in cells:
                turns = list(zip(servers, found, strict=True))
                for of_one, own in turns if number % 2 == 0 else reversed(turns):
                    own.costs.setdefault(cell.name, []).append(asker.cost(of_one[cell.kind], cell, seconds))
                if cell.bare_images:
                    alone[cell.name].append(bare.cost(cell.bare_images, seconds))
                if cell.beside_core:
                    of_core[cell.name].append(asker.cost(core, cell, seconds))
            if overloads:
                for of_one, own in zip(servers, found, strict=True):
                    _overload(asker, of_one["plain"], own, seconds)
        for cell in cells:
            rows += _rows(cell, variants, found, alone[cell.name])
            if cell.beside_core:
                name = f"{cell.name}: gRPC's core alone, CPU a call"
                rows.append(median_row(name, [1000 * one.cpu_ms for one in of_core[cell.name]], "us"))
        if overloads:
            rows += _overload_rows(variants, found)
        if not only:
            rows += _by_classes(servers[0]["plain"], asker, rounds, seconds)
            rows += _size(servers[0]["plain"])
    return rows


def _name(settings: Sequence[tuple[str, str]], checkout: Path | None) -> str:
    parts = [name_of(settings)] if settings else []
    return " ".join([*parts, *([checkout.resolve().name] if checkout else [])]) or name_of(settings)


def _start(folder: Path, cores: set[int]) -> list[Row]:
    starts = []
    for number in range(3):
        with lone_server(folder / f"start-{number}", cores) as server:
            starts.append(server.ready_s)
            has_torch = server.has_torch()
    return [
        median_row("server: from its start to its first answer", starts, "s", "<= 2"),
        Row(name="server: PyTorch loaded", value=has_torch, unit="", bound="<= 0"),
    ]


@contextmanager
def _servers(
    folder: Path, kinds: set[str], variants: Sequence[Variant], cores: set[int], certificate: Path
) -> Iterator[list[dict[str, LoneServer]]]:
    """Yield each variant's servers by kind. All of a network share one store and its versions."""
    encrypted = {"access.certificate": str(certificate), "access.private_key": str(certificate.with_suffix(".key"))}
    networks: dict[str, tuple[ModelConfig, Build, tuple[int, ...], dict[str, str]]] = {
        "resnet32": (RESNET32, backbones.build, _CLASSES, {}),
        "nothing": (RESNET32, nothing, (100,), {}),
        "photographs": (PHOTOGRAPHS, backbones.build, (100,), {"model.backbone": PHOTOGRAPHS.backbone}),
    }
    network_of = {"plain": "resnet32", "tls": "resnet32", "nothing": "nothing", "photographs": "photographs"}
    with ExitStack() as stack:
        found: list[dict[str, LoneServer]] = [{} for _ in variants]
        for name in sorted({network_of[kind] for kind in kinds}):
            model, build, classes, settings = networks[name]
            data_dir = folder / name
            stack.enter_context(published(data_dir, StoreConfig(), classes, model, build))
            for kind in sorted(kind for kind in kinds if network_of[kind] == name):
                for variant, of_one in zip(variants, found, strict=True):
                    own = settings | (encrypted if kind == "tls" else {}) | dict(variant.settings)
                    started = serving(data_dir, cores, own, model, checkout=variant.checkout)
                    of_one[kind] = stack.enter_context(started)
        yield found


def _bodies(folder: Path, photographs: Path | None) -> dict[str, Path]:
    """Return a serialised PredictRequest by name."""
    found = {str(images): request(folder, images) for images in (1, _IMAGES)}
    for name, make in (("small", photograph_files.small), ("telephone", photograph_files.telephone)):
        message = prediction_pb2.PredictRequest(images=[types_pb2.Image(encoded=make(photographs))])
        found[name] = folder / f"request-{name}"
        found[name].write_bytes(message.SerializeToString())
    return found


def _certificate(folder: Path) -> Path:
    """Return a certificate for this machine, with its key beside it."""
    made = folder / "server.crt"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    extra = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    files = ["-keyout", str(made.with_suffix(".key")), "-out", str(made)]
    subprocess.run([*command.split(), *extra, *files], check=True, capture_output=True)
    return made


def _overload(asker: Asker, server: LoneServer, found: Found, seconds: float) -> None:
    """One image a call: the peak, `_TIMES` its rate, `_TIMES` its callers. The first part is left out: lines fill."""
    seconds, since = 2 * seconds, seconds / 2
    one = Cell(name="", kind="plain", body="1", callers=_PEAK)
    many = Cell(name="", kind="plain", body="1", callers=_TIMES * _PEAK)
    peak = asker.send(server, one, seconds)[0].answered(since, seconds)
    opened = asker.send(server, one, seconds, rate=_TIMES * peak)[0].answered(since, seconds)
    closed = asker.send(server, many, seconds, pause_s=_PAUSE_S)[0].answered(since, seconds)
    again = asker.send(server, one, seconds)[0].answered(since, seconds)
    best = max(peak, again)  # a busy machine may hide it once
    found.peak.append(best)
    found.open_loop.append(opened / best)
    found.closed_loop.append(closed / best)


def _rows(cell: Cell, variants: Sequence[Variant], found: Sequence[Found], bare: Sequence[Cost]) -> list[Row]:
    rows = []
    if bare:
        rows.append(median_row(f"{cell.name}: ONNX Runtime alone, CPU", [one.cpu_ms for one in bare], "ms"))
    for variant, of_one in zip(variants, found, strict=True):
        own, name = of_one.costs[cell.name], f"{variant.name}{cell.name}"
        if cell.cpu_bound:
            rows.append(median_row(f"{name}: CPU a call", [1000 * one.cpu_ms for one in own], "us", cell.cpu_bound))
        else:
            rows.append(median_row(f"{name}: CPU a call", [one.cpu_ms for one in own], "ms"))
        rows.append(median_row(f"{name}: images", [one.rate * cell.images for one in own], "/s"))
        if bare:
            bound = cell.over_bare(statistics.median(one.cpu_ms for one in bare))
            rows.append(median_row(f"{name}: CPU over ONNX Runtime alone", _ratios(own, bare, "cpu_ms"), "x", bound))
        if cell.rate_bound:
            rows.append(median_row(f"{name}: images/s over that", _ratios(own, bare, "rate"), "x", cell.rate_bound))
    if len(found) > 1:
        first, second = (of_one.costs[cell.name] for of_one in found)
        rows.append(median_row(f"{cell.name}: CPU, second over first", _ratios(second, first, "cpu_ms"), "x"))
        rows.append(median_row(f"{cell.name}: images/s, second over first", _ratios(second, first, "rate"), "x"))
    return rows


def _overload_rows(variants: Sequence[Variant], found: Sequence[Found]) -> list[Row]:
    rows = []
    for variant, own in zip(variants, found, strict=True):
        name = f"{variant.name}overload"
        rows += [
            median_row(f"{name}: peak, {_PEAK} callers", own.peak, "/s"),
            median_row(f"{name}: {_TIMES}x the peak's rate: goodput over it", own.open_loop, "x", ">= 0.86"),
            median_row(f"{name}: {_TIMES}x its callers: goodput over it", own.closed_loop, "x"),
        ]
    return rows


def _ratios(some: Sequence[Cost], others: Sequence[Cost], part: str) -> list[float]:
    return [getattr(one, part) / getattr(other, part) for one, other in zip(some, others, strict=True)]


def _by_classes(server: LoneServer, asker: Asker, rounds: int, seconds: float) -> list[Row]:
    cell = Cell(name="by classes", kind="plain", body="1")
    found: dict[int, list[float]] = {count: [] for count in _CLASSES}
    with Client(server.address, timeout=30) as client:
        for _ in range(rounds):
            for version, count in enumerate(_CLASSES, 1):
                client.activate(version)
                found[count].append(asker.cost(server, cell, seconds).cpu_ms)
        client.activate(1)
    rows = [median_row(f"{count} classes: CPU a call", values, "ms") for count, values in found.items()]
    fewest = found[_CLASSES[0]]
    for count in _CLASSES[1:]:
        ratios = [one / other for one, other in zip(found[count], fewest, strict=True)]
        rows.append(median_row(f"{count} classes over {_CLASSES[0]}: CPU a call", ratios, "x", "<= 1.2"))
    return rows


def _size(server: LoneServer) -> list[Row]:
    return [Row(name="server: resident after all this", value=server.resident() / 2**20, unit="MiB", bound="<= 250")]


if __name__ == "__main__":
    main()
