"""Real digits, patience, and a learner in a process of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from accrete_storage.config import StoreConfig
from accrete_storage.examples.example import Example
from accrete_storage.store import Store
from accrete_storage.versions.record import VersionRecord
from benchmarks.digits import scans_of
from benchmarks.waiting import until
from tests.learner_service.run_learner import run
from tests.support.forks import fork


def digits(label: int, count: int, start: int = 0) -> list[Example]:
    """Return scans of one digit as an application's examples."""
    images, _ = scans_of([label], count, start)
    return [Example(id=f"{label}-{start + n}", label=f"digit {label}", content=x) for n, x in enumerate(images)]


class RunningLearner:
    """A learner's process and what a test wants of it."""

    def __init__(self, data_dir: Path, store: Store, store_config: StoreConfig, **options: dict[str, object]) -> None:
        self._data_dir = data_dir
        self._store = store
        self._log = data_dir / "learner.log"
        self._log.touch()
        self.process = fork(run, data_dir, store_config, options)

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def log(self) -> str:
        return self._log.read_text()

    def version(self, number: int):
        """Waits for a version to be active, and returns its record."""
        until(lambda: self._store.registry.state().version >= number, lambda: f"version {number}\n{self.log()}")
        return self._store.registry.version(number)

    def event(self, kind: str, count: int = 1):
        """Waits for the nth event of a kind."""

        def look():
            found = [event for event in self._store.events.read("0", block_ms=None, count=10_000) if event.kind == kind]
            return found[count - 1 :]

        return until(look, lambda: f"event {kind}\n{self.log()}")[0].body

    def trainer_pid(self) -> int:
        """The trainer that stands by."""
        return self._told_pid("trainer.started")

    def step_pid(self) -> int:
        """The newest step's process."""
        return self._told_pid("trainer.begun")

    def _told_pid(self, event: str) -> int:
        marker = f"{event} pid="
        return int(until(lambda: self.log().split(marker)[1:], event).pop().split()[0])

    def kill(self) -> None:
        self.process.kill()
        self.process.join()

    def stop(self) -> int | None:
        """Asks it to end; returns its exit code."""
        self.process.terminate()
        self.process.join(300)
        return self.process.exitcode


def record(version: int, **fields) -> VersionRecord:
    """A version's record with what a test does not care about filled in."""
    empty: dict[str, Any] = {
        "state": "ready",
        "parent": 0,
        "created_ms": 0,
        "labels": [],
        "new_labels": [],
        "method": "icarl",
        "digest": "",
        "accuracy": {},
        "class_accuracy": {},
        "step_seconds": 0.0,
        "stage_seconds": {},
        "learned": {},
        "revision": 0,
        "since": {},
    }
    return VersionRecord(version=version, **(empty | fields))
