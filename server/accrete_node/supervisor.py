"""Keep a machine's embedded store, server, learner and page running."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import IO

from accrete_kit.backoff import Backoff
from accrete_kit.file_lock import FileLock
from accrete_kit.parent_death import command_ending_with_parent
from accrete_node.exit_status import CANNOT_START
from accrete_storage.embedded.server import EmbeddedStore
from accrete_storage.errors import StorageError

FIRST_RESTART_S = 0.25
LAST_RESTART_S = 30.0
STEADY_S = 30.0
"""A process that has run this long has recovered, and its next restart waits as short as the first."""
_TICK_S = 0.05
_STORE_END_S = 2.0
"""Seconds that are kept for ending the store after the others."""

_log = logging.getLogger(__name__)


class CannotStart(Exception):
    """A process cannot start with these settings or this data. Its own message has said why."""


class SupervisedProcess(ABC):
    """A process that is started again whenever it has died, after waits that grow from death to death."""

    def __init__(self, name: str) -> None:
        """Make it without starting it, with a name for the log."""
        self.name = name
        self.needed = True
        """All ends if it cannot start at all."""
        self.starts = 0
        self.dead = False
        """It has ended and waits to be started again."""
        self.backoff = Backoff(first_s=FIRST_RESTART_S, last_s=LAST_RESTART_S)
        self._started_s = 0.0

    @property
    @abstractmethod
    def pid(self) -> int | None:
        """The process id, None before the first start."""

    @abstractmethod
    def alive(self) -> bool:
        """Return whether it runs."""

    def status(self) -> int | None:
        """Return the exit status, None while it runs and where it is not known."""
        return None

    def start(self) -> None:
        """Start it.

        From the main thread only, for the kernel ends the process with the *thread* that started it.

        Raises:
            StorageError: the embedded store cannot start.
            OSError: the machine has no room for a process.
        """
        self._started_s = time.monotonic()
        self.starts += 1
        self.dead = False
        self._launch()
        _log.info("process.started", extra={"child": self.name, "pid": self.pid})

    def revive(self) -> None:
        """Start it again if it has died and its wait is over.

        Raises:
            CannotStart: its first start ended with word that it cannot be.
        """
        if self.alive():
            return
        if not self.dead:
            self._note_death()
        if self.backoff.due():
            try:
                self.start()
            except (StorageError, OSError) as error:
                _log.error("process.not_started", extra={"child": self.name, "reason": str(error)})

    @abstractmethod
    def _launch(self) -> None:
        """Make the process."""

    def _note_death(self) -> None:
        steady = time.monotonic() - self._started_s >= STEADY_S
        # One that has run is always tried again: a full disk or a port that is taken meanwhile must not end the others.
        if self.needed and self.status() == CANNOT_START and self.starts == 1 and not steady:
            raise CannotStart(f"{self.name} cannot start")
        if steady:
            self.backoff.reset()
        self.dead = True
        wait_s = self.backoff.failed()
        _log.warning("process.died", extra={"child": self.name, "status": self.status(), "restart_in_s": wait_s})


class Child(SupervisedProcess):
    """A process of our own: the server, the learner or the page."""

    def __init__(self, name: str, command: Sequence[str], log: IO[bytes] | None = None, *, needed: bool = True) -> None:
        """Make it without starting it.

        Args:
            name: for the log.
            command: to run.
            log: where its output goes; None sends it where ours goes.
            needed: whether all ends if it says at its first start that it cannot start.
        """
        super().__init__(name)
        self.needed = needed
        self._command = command
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id, None before the first start."""
        return None if self._process is None else self._process.pid

    def alive(self) -> bool:
        """Return whether it runs."""
        return self._process is not None and self._process.poll() is None

    def status(self) -> int | None:
        """Return the exit status, None while it runs and before the first start."""
        return None if self._process is None else self._process.poll()

    def ask_to_end(self) -> None:
        """Send SIGTERM."""
        if self._process is not None and self.alive():
            self._process.terminate()

    def kill(self) -> None:
        """End what is left of it, and of what it started in its group, by force."""
        if self._process is None:
            return
        if self.alive():
            _log.warning("process.killed", extra={"child": self.name, "pid": self.pid})
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _launch(self) -> None:
        """Make the process in a group of its own, but in the session of the others.

        A Ctrl-C then reaches the supervisor alone, which ends the others in order. Many kernels weigh nice values
        within one session alone (autogroup, sched(7)).
        """
        self._process = subprocess.Popen(
            command_ending_with_parent(self._command),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            process_group=0,
        )


class StoreProcess(SupervisedProcess):
    """The embedded store."""

    def __init__(self, store: EmbeddedStore) -> None:
        """Supervise `store`, which is not started yet."""
        super().__init__("store")
        self._store = store

    @property
    def pid(self) -> int | None:
        """The process id, None before the first start."""
        return self._store.pid

    def alive(self) -> bool:
        """Return whether it runs."""
        return self._store.alive()

    def end(self, timeout_s: float) -> None:
        """End it in order, and by force after `timeout_s` seconds."""
        self._store.stop(timeout_s)

    def _launch(self) -> None:
        # One that comes back may load for long. The others know a store that is away, and are looked after meanwhile.
        self._store.start(wait=self.starts == 1)


class Supervisor:
    """Start everything, bring back what dies, and end everything in order."""

    def __init__(
        self,
        store: EmbeddedStore | None,
        children: Sequence[Child],
        *,
        lock: FileLock | None = None,
        end_s: float = 9.0,
    ) -> None:
        """Make it without starting anything.

        Args:
            store: None for one that runs elsewhere.
            children: to run beside it.
            lock: of the data directory, released when everything has ended.
            end_s: seconds that ending everything may take.
        """
        self._lock = lock
        self._store = None if store is None else StoreProcess(store)
        self._children = list(children)
        self._end_s = end_s

    @property
    def pids(self) -> dict[str, int]:
        """The process id of each process that was started, by name, where "store" is the store's."""
        return {process.name: process.pid for process in self._processes if process.pid is not None}

    @property
    def _processes(self) -> list[SupervisedProcess]:
        return [*([] if self._store is None else [self._store]), *self._children]

    def start(self, clear: Callable[[], bool] = lambda: True) -> None:
        """Start the store, then the others as soon as `clear` returns that what was there before has gone.

        Raises:
            StorageError: the embedded store cannot start.
            OSError: the machine has no room for a process.
        """
        if self._store is not None:
            self._store.start()
        while not clear():
            time.sleep(_TICK_S)
        for child in self._children:
            child.start()

    def run(self, until: Callable[[], bool]) -> None:
        """Watch over everything until `until` returns True.

        Raises:
            CannotStart: a process says that it cannot start at all.
        """
        while not until():
            self.look()
            time.sleep(_TICK_S)

    def look(self) -> None:
        """Bring back what has died and whose wait is over.

        Raises:
            CannotStart: a process says that it cannot start at all.
        """
        for process in self._processes:
            process.revive()

    def end(self, hurry: Callable[[], bool] = lambda: False) -> None:
        """End the server, the learner and the page, then the store, within `end_s` seconds.

        Args:
            hurry: whether to end what still runs at once, by force.
        """
        deadline = time.monotonic() + self._end_s
        for child in self._children:
            child.ask_to_end()
        last = deadline - (0.0 if self._store is None else _STORE_END_S)
        while any(child.alive() for child in self._children) and not hurry() and time.monotonic() < last:
            time.sleep(_TICK_S)
        for child in self._children:
            child.kill()
        if self._store is not None:
            self._store.end(max(1.0, deadline - time.monotonic()))
        if self._lock is not None:
            self._lock.release()
