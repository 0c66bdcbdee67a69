"""Servers and learners on a store that runs already, each a process of its own, and what they and the store cost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from accrete_storage.config import HoldoutConfig, StoreConfig
from accrete_storage.embedded.server import EmbeddedStore
from accrete_storage.store import Store
from benchmarks.waiting import until

SHAPE = (224, 224, 3)
"""Of the photographs that the default backbone takes."""
_CPU_CLOCK = 2
"""CPUCLOCK_SCHED of include/linux/posix-timers.h: what a process's clock counts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Used:
    """What a store has used so far, or between two looks."""

    cpu_us: float
    out_bytes: float
    commands: float

    def since(self, before: Used) -> Used:
        """Return what was used between two looks."""
        return Used(
            cpu_us=self.cpu_us - before.cpu_us,
            out_bytes=self.out_bytes - before.out_bytes,
            commands=self.commands - before.commands,
        )


class WatchedStore:
    """An embedded store, with a connection to it."""

    def __init__(self, embedded: EmbeddedStore, store: Store) -> None:
        self.pid = embedded.pid or 0
        self.store = store
        self.client: Any = store._database.client
        self.keys = store._keys

    def used(self) -> Used:
        """Return what it has used so far."""
        info = self.client.info("stats")
        return Used(
            cpu_us=cpu_us(self.pid),
            out_bytes=info["total_net_output_bytes"],
            commands=info["total_commands_processed"],
        )

    def memory(self) -> int:
        """Return the bytes that its data take."""
        return int(self.client.info("memory")["used_memory_dataset"])


@contextmanager
def watched_store(data_dir: Path) -> Iterator[WatchedStore]:
    """Run the embedded store of a data directory, which may have data already."""
    with ExitStack() as stack:
        embedded = EmbeddedStore(data_dir, StoreConfig())
        embedded.start()
        stack.callback(embedded.stop)
        store = Store.connect(StoreConfig(timeout_s=60), HoldoutConfig(share=0.0), data_dir=data_dir)
        stack.callback(store.close)
        yield WatchedStore(embedded, store)


class Worker:
    """`accrete serve` or `accrete learn`, started by hand."""

    def __init__(
        self, what: str, data_dir: Path, settings: Mapping[str, str], environment: Mapping[str, str] | None = None
    ) -> None:
        """Start it.

        Args:
            what: "serve" or "learn".
            data_dir: its own, or one that it shares.
            settings: by `SECTION.FIELD`.
            environment: further variables.
        """
        name = {"serve": "server", "learn": "learner"}[what]
        self.data_dir = data_dir
        self._log = data_dir / f"{name}.log"
        self._status = data_dir / f"{name}.json"
        command = [sys.executable, "-m", "accrete", what, "--data-dir", str(data_dir)]
        command += ["--set", f"{name}.metrics_port=0", *(("--port", "0") if what == "serve" else ())]
        command += [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
        data_dir.mkdir(parents=True, exist_ok=True)
        self._status.unlink(missing_ok=True)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | (environment or {}))

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def cpu_us(self) -> float:
        """Return its processor time so far."""
        return cpu_us(self.pid)

    @property
    def ended(self) -> bool:
        """Whether it runs no more."""
        return self._process.poll() is not None

    def address(self) -> str:
        """Return where a server listens, once it does."""
        until(lambda: self._status.exists() or self._process.poll() is not None, what="the server")
        if self._process.poll() is not None:
            raise RuntimeError(f"it ended: {self._log.read_text(errors='replace')[-3000:]}")
        return str(json.loads(self._status.read_text())["address"])

    def swaps(self) -> list[tuple[int, float]]:
        """Return the versions that a server made live, with the time of each (Unix time)."""
        found = []
        for line in self.log().splitlines():
            if '"version.live"' in line and line.endswith("}"):
                entry = json.loads(line)
                found.append((int(entry["version"]), datetime.fromisoformat(entry["time"]).timestamp()))
        return found

    def live(self) -> dict[int, float]:
        """Return by version when a server first made it live (Unix time)."""
        return dict(reversed(self.swaps()))

    def log(self) -> str:
        """Return what it has told."""
        return self._log.read_text(errors="replace")

    def stop(self) -> None:
        """End it in order."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def worker(
    what: str, data_dir: Path, settings: Mapping[str, str], environment: Mapping[str, str] | None = None
) -> Iterator[Worker]:
    """Run one while the block runs."""
    running = Worker(what, data_dir, settings, environment)
    try:
        yield running
    except BaseException:
        print(running.log()[-3000:], file=sys.stderr)
        raise
    finally:
        running.stop()


def cpu_us(pid: int) -> float:
    """Return the processor time of a process so far, of all its threads, from the clock that Linux has for it.

    The process table has hundredths of a second, which is more than many of these things cost.
    """
    return time.clock_gettime_ns((~pid << 3) | _CPU_CLOCK) / 1e3
