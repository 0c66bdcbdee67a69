"""Keeps a machine's processes running: the embedded store, the server, the learner."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import IO

from accrete_kit.backoff import Backoff
from accrete_kit.parent_death import tethered
from accrete_storage.embedded.server import EmbeddedStore
from accrete_storage.errors import StorageError

FIRST_RESTART_S = 0.25
LAST_RESTART_S = 30.0
STEADY_S = 30.0
"""A process that has run this long has recovered: its next restart waits as short as the first."""
CANNOT_START = 2
"""Exit status of a process whose settings or data cannot be used: starting it again would not help."""
_TICK_S = 0.05

_log = logging.getLogger(__name__)


class CannotStart(Exception):
    """A process cannot start with these settings or this data; its own message has said why."""


def _backoff() -> Backoff:
    return Backoff(first_s=FIRST_RESTART_S, last_s=LAST_RESTART_S)


def _wait_after(backoff: Backoff, lived_s: float) -> float:
    """Note an end after `lived_s` seconds; return the seconds to wait."""
    if lived_s >= STEADY_S:
        backoff.reset()
    return backoff.failed()


@dataclass
class Child:
    """One supervised process."""

    name: str
    command: Sequence[str]
    log: IO[bytes] | None = None
    """Where its output goes; None: where ours goes."""
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    starts: int = 0
    dead: bool = False
    """It has ended and waits to be started again."""
    backoff: Backoff = field(default_factory=_backoff)

    def start(self) -> None:
        """Start it in a process group of its own, so that a Ctrl-C reaches the supervisor alone, who ends it in order;
        in the session of the others, since many kernels weigh nice values within one session alone (autogroup).

        From the main thread only: the kernel ends the child with the *thread* that started it.
        """
        self.started = time.monotonic()
        self.starts += 1
        self.dead = False
        self.process = subprocess.Popen(
            tethered(self.command),
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            process_group=0,
        )
        _log.info("process_started", extra={"child": self.name, "pid": self.process.pid})

    def status(self) -> int | None:
        """Its exit status; None while it runs or before it was started."""
        return None if self.process is None else self.process.poll()

    def cannot_start(self) -> bool:
        """Whether its first start ended with word that it cannot be. One that has run is always tried again: a full
        disk or a port that is taken meanwhile must not end the others, which answer."""
        return self.status() == CANNOT_START and self.starts == 1 and time.monotonic() - self.started < STEADY_S

    def ask_to_end(self) -> None:
        """SIGTERM."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def end(self, timeout_s: float) -> None:
        """Wait for its end, then by force; what it started in its group goes with it."""
        if self.process is None:
            return
        try:
            self.process.wait(max(0.0, timeout_s))
        except subprocess.TimeoutExpired:
            _log.warning("process_killed", extra={"child": self.name, "pid": self.process.pid})
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Supervisor:
    """Starts everything, brings back what dies, ends everything in order."""

    def __init__(self, store: EmbeddedStore | None, children: Sequence[Child], *, end_s: float = 9.0) -> None:
        """`store`: None for one that runs elsewhere. `end_s`: seconds that ending everything may take."""
        self._store = store
        self._store_started = 0.0
        self._store_dead = False
        self._store_backoff = _backoff()
        self._children = list(children)
        self._end_s = end_s

    @property
    def pids(self) -> dict[str, int]:
        """Process of each child by name, the store's as "store"."""
        found = {child.name: child.process.pid for child in self._children if child.process is not None}
        if self._store is not None and self._store.pid is not None:
            found["store"] = self._store.pid
        return found

    def start(self, clear: Callable[[], bool] = lambda: True) -> None:
        """Start the store, then the others, as soon as `clear` says that what was there before has gone.

        Raises StorageError when the embedded store cannot start.
        """
        if self._store is not None:
            self._store.start()
            self._store_started = time.monotonic()
            _log.info("process_started", extra={"child": "store", "pid": self._store.pid})
        while not clear():
            time.sleep(_TICK_S)
        for child in self._children:
            child.start()

    def run(self, until: Callable[[], bool]) -> None:
        """Watch over everything until told. Raises CannotStart when a child says that it cannot start at all."""
        while not until():
            self.look()
            time.sleep(_TICK_S)

    def look(self) -> None:
        """Bring back what has died and whose wait is over. Raises CannotStart."""
        if self._store is not None and not self._store.alive():
            self._revive_store(self._store)
        for child in self._children:
            if child.status() is not None:
                self._revive(child)

    def end(self, hurry: Callable[[], bool] = lambda: False) -> None:
        """End the server and the learner, then the store, within `end_s` seconds; `hurry`: at once, by force."""
        deadline = time.monotonic() + self._end_s
        for child in self._children:
            child.ask_to_end()
        last = deadline - (2.0 if self._store is not None else 0.0)
        while any(child.status() is None and child.process is not None for child in self._children):
            if hurry() or time.monotonic() > last:
                break
            time.sleep(_TICK_S)
        for child in self._children:
            child.end(0.0)
        if self._store is not None:
            self._store.stop(max(1.0, deadline - time.monotonic()))

    def _revive(self, child: Child) -> None:
        if not child.dead:
            if child.cannot_start():
                raise CannotStart(f"{child.name} cannot start")
            child.dead = True
            wait = _wait_after(child.backoff, time.monotonic() - child.started)
            extra = {"child": child.name, "status": child.status(), "restart_in_s": wait}
            _log.warning("process_died", extra=extra)
        if child.backoff.due():
            child.start()

    def _revive_store(self, store: EmbeddedStore) -> None:
        if not self._store_dead:
            self._store_dead = True
            wait = _wait_after(self._store_backoff, time.monotonic() - self._store_started)
            _log.warning("process_died", extra={"child": "store", "restart_in_s": wait})
        if not self._store_backoff.due():
            return
        self._store_started = time.monotonic()
        self._store_dead = False
        try:
            store.start()
        except (StorageError, OSError) as error:
            _log.error("store_not_back", extra={"reason": str(error)})
