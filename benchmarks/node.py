"""A whole node, started as a user starts it, on a folder of its own: for benchmarks and end-to-end tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from accrete import Client, Unavailable
from accrete_node.up import addresses
from accrete_storage.config import HoldoutConfig, StoreConfig
from accrete_storage.store import Store
from benchmarks.bucket import as_flags, home_of
from benchmarks.waiting import free_port, until

SETTINGS = """
preset = "cifar"
[model]
backbone = "resnet8"
input_size = 8
channels = 1
[method]
name = "lucir"
[training]
base_epochs = 2
epochs = {epochs}
batch_size = 32
threads = 1
augmentation = "crop"
[memory]
size = 5
[trigger]
min_examples = 30
first_classes = 2
classes_per_step = 2
settle_s = 0.2
max_wait_s = 3600.0
[gate]
enabled = false
[learner]
metrics_port = 0
lease_s = 3.0
retry_s = 0.2
[server]
metrics_port = 0
port = {port}
[page]
enabled = false
[log]
format = "text"
"""


def descendants(pid: int) -> dict[int, str]:
    """Command lines of all processes below one."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text().rpartition(")")[2].split()
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if stat[0] != "Z":
                parents[int(entry.name)] = (int(stat[1]), line)
    found: dict[int, str] = {}
    wave = {pid}
    while wave:
        wave = {child for child, (parent, _) in parents.items() if parent in wave}
        found |= {child: parents[child][1] for child in wave}
    return found


_ASKED_AGAIN_S = 2.0
_MARKS = {"store": "valkey-server", "server": "accrete_node serve", "learner": "accrete_node learn"}


class Node:
    """`accrete up` as a process, small: steps of a second or two on digits of 8 x 8 pixels."""

    def __init__(
        self,
        folder: Path,
        epochs: int = 2,
        settings: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start nothing. `settings`: further ones by `SECTION.FIELD`, as for `--set`; `environment`: further
        variables."""
        self.settings = dict(settings or {})
        self.folder = folder
        self.data_dir = folder / "data"
        self.home = as_flags(home_of(self.data_dir)) if "artifacts.url" not in self.settings else []
        """What tells other commands where the node's versions are, if not in the data directory."""
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.config = folder / "accrete.toml"
        self.config.write_text(SETTINGS.format(epochs=epochs, port=self.port))
        self._environment = dict(environment or {})
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, wrapped: Callable[[list[str]], list[str]] = list) -> None:
        """Start the node. It may be started again after `stop`.

        Args:
            wrapped: The command to run in place of the node's.
        """
        log = (self.folder / "node.log").open("ab")
        command = [
            sys.executable,
            "-m",
            "accrete",
            "up",
            "--data-dir",
            str(self.data_dir),
            "--config",
            str(self.config),
            *self.home,
            *(part for name, value in self.settings.items() for part in ("--set", f"{name}={value}")),
        ]
        environment = os.environ | self._environment
        self.process = subprocess.Popen(
            wrapped(command), stdout=log, stderr=log, start_new_session=True, env=environment
        )
        log.close()

    def pid(self, name: str) -> int | None:
        """Return the process of "store", "server", "learner", the "trainer" that stands by, or its "step"."""
        if self.process is None:
            raise RuntimeError("the node was not started")
        below = descendants(self.process.pid)
        if parent := {"trainer": "learner", "step": "trainer"}.get(name):
            above = self.pid(parent)
            # What is below a process's child was started later.
            return min(descendants(above), default=None) if above else None
        return next((pid for pid, line in below.items() if _MARKS[name] in line), None)

    def kill(self, name: str) -> None:
        """kill -9, once it is there."""
        pid = until(lambda: self.pid(name), what=name)
        os.kill(pid, signal.SIGKILL)

    def stop(self) -> float:
        """SIGTERM; answers the seconds it took."""
        if self.process is None:
            raise RuntimeError("the node was not started")
        started = time.monotonic()
        self.process.terminate()
        self.process.wait(300)
        return time.monotonic() - started

    def client(self) -> Client:
        """Return a client of it, to be closed."""
        return Client(self.address, timeout=300)

    @contextmanager
    def ready(self, seconds: float = 300.0) -> Iterator[Client]:
        """Yield a client of it once it serves.

        Raises:
            RuntimeError: it ended before that; with the end of its log.
            Unavailable: it does not serve in time.
        """
        with self.client() as client:
            last = time.monotonic() + seconds
            while True:
                try:
                    client.wait_ready(_ASKED_AGAIN_S)
                    break
                except Unavailable:
                    if self.process is not None and self.process.poll() is not None:
                        raise RuntimeError(f"the node ended: {self.log()[-3000:]}") from None
                    if time.monotonic() > last:
                        raise
            yield client

    @contextmanager
    def store(self) -> Iterator[Store]:
        """Yield the node's own store, to look into."""
        store = Store.connect(StoreConfig(), HoldoutConfig(), data_dir=self.data_dir)
        try:
            yield store
        finally:
            store.close()

    def log(self) -> str:
        """Return what all its processes have told."""
        return (self.folder / "node.log").read_text(errors="replace")


@contextmanager
def side_by_side(*works: Callable[[threading.Event], None]) -> Iterator[None]:
    """Run each on a thread of its own while the block runs. Each ends soon after the event that it is given is set."""
    enough = threading.Event()
    threads = [threading.Thread(target=work, args=(enough,)) for work in works]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        enough.set()
        for thread in threads:
            thread.join()


def runs(pid: int) -> bool:
    """Return whether a process is there and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def resident_bytes(pid: int) -> int:
    """Memory of a process that is in RAM."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def cpu_s(pid: int) -> float:
    """Processor time of a process, all threads, so far."""
    return time.clock_gettime((~pid << 3) | 2)  # the clock that `clock_getcpuclockid` names; /proc counts in 10 ms


@contextmanager
def default_node(
    data_dir: Path,
    settings: Mapping[str, str] | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    wrapped: Callable[[list[str]], list[str]] = list,
) -> Iterator[str]:
    """Run `accrete up` with nothing set but where it is, without its page, and yield its address.

    Args:
        data_dir: made here; the log lies beside it.
        settings: further ones by `SECTION.FIELD`.
        environment: further variables.
        wrapped: returns the command to run in place of the node's.
    """
    own = {"server.metrics_port": "0", "learner.metrics_port": "0", "page.enabled": "false"}
    command = [sys.executable, "-m", "accrete", "up", "--data-dir", str(data_dir), "--port", "0"]
    for name, value in (own | dict(settings or {})).items():
        command += ["--set", f"{name}={value}"]
    data_dir.mkdir()
    with (data_dir.parent / "node.log").open("wb") as log:
        process = subprocess.Popen(wrapped(command), stdout=log, stderr=log, env=os.environ | dict(environment or {}))
    try:
        yield until(lambda: addresses(data_dir), what="the server")["address"]
    finally:
        process.terminate()
        process.wait(300)
