"""What one server process reaches on all cores, and what a second that shares its port adds.

A network that computes nothing, and one of about a millisecond (ResNet-32), one image a call; senders and servers share
all cores, so that what is left over for either is told as well: calls a second for each core that the servers took. One
process computes a call for each core at once, two a half of that each; the kernel shares out the connections.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from accrete_learner import backbones
from accrete_storage.config import StoreConfig
from benchmarks.cpu_watch import CpuWatch
from benchmarks.halves import halves
from benchmarks.lone_server import Build, LoneServer, nothing, published, request, serving
from benchmarks.open_loop import Traffic, run
from benchmarks.report import Row, arguments, machine, median_row, setting, show
from benchmarks.waiting import free_port

_SENDERS = 2
_CONNECTIONS, _IN_FLIGHT = 16, 32
"""Of each sender."""
_WARM_S = 0.5
_PROCESSES = (1, 2)
NETWORKS: dict[str, Build] = {"a network of nothing": nothing, "a network of 1 ms": backbones.build}


@dataclass(frozen=True, kw_only=True)
class Found:
    """Of one round."""

    rate: float
    """Calls per second."""
    cores: float
    """That the servers took."""

    @property
    def cpu_us(self) -> float:
        """Processor time of the servers a call."""
        return 1e6 * self.cores / self.rate


def main() -> None:
    """Measure and show."""
    parser = arguments(__doc__ or "")
    parser.add_argument(
        "--set", action="append", default=[], metavar="S.F=V", type=setting, help="a setting of the servers"
    )
    parsed = parser.parse_args()
    facts = machine()
    rounds, seconds = (3, 1.0) if parsed.short else (7, 3.0)
    with tempfile.TemporaryDirectory(prefix="accrete-cores-") as folder:
        rows = measure(Path(folder), dict(parsed.set), rounds=rounds, seconds=seconds)
    show(rows, facts, parsed.json)


def measure(folder: Path, settings: dict[str, str], *, rounds: int, seconds: float) -> list[Row]:
    """Start the servers of every network, and ask them by turns."""
    theirs, ours = halves()
    cores = theirs | ours
    body = request(folder, 1)
    found: dict[tuple[str, int], list[Found]] = {(name, count): [] for name in NETWORKS for count in _PROCESSES}
    with ExitStack() as stack:
        groups = {}
        for name, build in NETWORKS.items():
            data_dir = folder / name.replace(" ", "-")
            stack.enter_context(published(data_dir, StoreConfig(), build=build))
            for count in _PROCESSES:
                groups[name, count] = stack.enter_context(_servers(data_dir, cores, count, settings))
        for group in groups.values():  # the first calls are slower than those that follow
            _round(group, body, cores, 0.5)
        for _ in range(rounds):
            for key, group in groups.items():
                found[key].append(_round(group, body, cores, seconds))
    return [row for name in NETWORKS for row in _rows(name, found)]


@contextmanager
def _servers(data_dir: Path, cores: set[int], count: int, settings: dict[str, str]) -> Iterator[list[LoneServer]]:
    shared = {"server.share_port": "true", "server.port": str(free_port())} if count > 1 else {}
    own = shared | {"server.concurrency": str(max(1, len(cores) // count))} | settings
    with ExitStack() as stack:
        yield [stack.enter_context(serving(data_dir, cores, own)) for _ in range(count)]


def _round(servers: Sequence[LoneServer], body: Path, cores: set[int], seconds: float) -> Found:
    """Send calls from all senders at once, and count those between two moments at which all of them send."""
    traffic = Traffic(
        address=servers[0].address,
        request=str(body),
        in_flight=_IN_FLIGHT,
        connections=_CONNECTIONS,
        seconds=seconds + 2 * _WARM_S,
        deadline_s=60.0,
    )
    watch = CpuWatch(lambda: sum(server.cpu_s() for server in servers))
    with watch.watching(), ThreadPoolExecutor(_SENDERS) as senders:
        outcomes = list(senders.map(lambda _: run(traffic, cores), range(_SENDERS)))
    if any(set(outcome.code) != {"OK"} for outcome in outcomes):
        raise RuntimeError(f"not all calls were answered: {[outcome.count() for outcome in outcomes]}")
    since = max(outcome.begun for outcome in outcomes) + _WARM_S
    until = min(outcome.begun for outcome in outcomes) + traffic.seconds
    if until <= since:
        raise RuntimeError("the senders did not send at the same time; the machine is too busy")
    rate = sum(outcome.answered(since - outcome.begun, until - outcome.begun) for outcome in outcomes)
    return Found(rate=rate, cores=watch.between(since, until) / (until - since))


def _rows(name: str, found: dict[tuple[str, int], list[Found]]) -> list[Row]:
    rows = []
    for count in _PROCESSES:
        own = found[name, count]
        told = f"{name}, {count} process{'es on one port' if count > 1 else ''}"
        rows += [
            median_row(f"{told}: calls", [one.rate for one in own], "/s"),
            median_row(f"{told}: CPU a call", [one.cpu_us for one in own], "us"),
            median_row(f"{told}: cores taken", [one.cores for one in own], ""),
            median_row(f"{told}: calls a second and core taken", [1e6 / one.cpu_us for one in own], "/s"),
        ]
    one, two = found[name, 1], found[name, 2]
    pairs = list(zip(two, one, strict=True))
    return [
        *rows,
        median_row(f"{name}: calls, two over one", [some.rate / other.rate for some, other in pairs], "x"),
        median_row(f"{name}: CPU a call, two over one", [some.cpu_us / other.cpu_us for some, other in pairs], "x"),
    ]


if __name__ == "__main__":
    main()
