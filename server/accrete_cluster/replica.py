"""The actor of one server or learner: its process is a child that dies with the actor."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

from accrete import Unavailable
from accrete_cluster.fence import is_over
from accrete_cluster.health import Health
from accrete_cluster.priority import as_the_raylet
from accrete_cluster.slot import Slot
from accrete_cluster.spec import SERVER, Spec, on_node, software
from accrete_node.processes import command
from accrete_node.settings import Settings
from accrete_node.supervisor import Child
from accrete_storage.errors import StorageError

STARTING, READY, FAILING, DRAINING, ENDED = "starting", "ready", "failing", "draining", "ended"
_TICK_S = 0.1
_HEALTH_EVERY_S = 1.0
_DEAD_AFTER_S = 10.0
"""Seconds without an answer after which a server that has answered is killed and started again."""
_END_S = 10.0
"""Seconds that a process has to end beyond what its settings give to the calls under way."""

_log = logging.getLogger(__name__)


class Replica:
    """Keeps one server or learner running on its node, and says how it is. Made into an actor by the controller."""

    def __init__(self, spec: Spec, kind: str, host: str, epoch: int) -> None:
        """Start the process.

        Args:
            spec: of the cluster.
            kind: `server` or `learner`.
            host: address of this node.
            epoch: of the controller that asks for it.

        Raises:
            RuntimeError: another release is installed on this node, or the controller has a successor.
            SettingsError: the settings cannot be used on this node.
            OSError: the data directory cannot be written.
        """
        if software() != spec.software:
            raise RuntimeError(f"accrete {software()} is installed here, and the cluster runs {spec.software}")
        with contextlib.suppress(OSError):
            os.chdir(spec.folder)
        settings = spec.settings()
        self._epoch: int | None = epoch
        if self._unwanted(settings):
            raise RuntimeError("a controller asked for this that has a successor")
        self._kind = kind
        self._slot = Slot(settings, kind)
        self._settings = on_node(settings, host, self._slot.folder)
        self._end_s = settings.server.drain_s + settings.server.grace_s + _END_S
        _undo_rays_limits()
        as_the_raylet()  # also of the threads and processes that are started from here
        self._child = Child(kind, command(self._settings, "serve" if kind == SERVER else "learn"), needed=False)
        self._file = self._slot.folder / f"{kind}.json"
        self._state = STARTING
        self._found: dict[str, Any] = {}
        self._ending = threading.Event()
        self._ended = threading.Event()
        # The child ends with the thread that starts it, so that thread lives as long as the actor.
        threading.Thread(target=self._run, name="child", daemon=True).start()

    def state(self) -> dict[str, Any]:
        """Return how the process is."""
        return {
            "state": self._state,
            "pid": self._child.pid,
            "actor_pid": os.getpid(),
            "starts": self._child.starts,
            "address": self._found.get("address", ""),
            "metrics": self._found.get("metrics", ""),
            "folder": str(self._slot.folder),
            "owner": f"{socket.gethostname()}:{self._slot.folder.resolve()}",
            "reason": _last_words() if self._state == FAILING else "",
        }

    def end(self, epoch: int | None = None) -> bool:
        """Have the process finish what is under way and end; return True when it has.

        Args:
            epoch: of the controller that asks for it. If it has a successor, this returns False, and changes nothing.
        """
        try:
            if epoch is not None and is_over(self._settings, epoch):
                return False
        except StorageError:  # with the store away as well, a cluster can be ended
            _log.warning("replica.ends_unchecked")
        self._ending.set()
        return self._ended.wait(self._end_s + 5)

    def _unwanted(self, settings: Settings) -> bool:
        """Return whether the controller that asked for this has a successor, which may not know of it then.

        The store is asked until it has answered once.
        """
        try:
            if self._epoch is None or is_over(settings, self._epoch):
                return self._epoch is not None
        except StorageError:
            return False
        self._epoch = None
        return False

    def _run(self) -> None:
        health: Health | None = None
        self._start()
        answered = looked = time.monotonic()
        pid = self._child.pid
        while not self._ending.wait(_TICK_S):
            if not self._child.alive():
                self._state = STARTING if self._state == READY else FAILING
                self._found = {}
                self._revive()
            if pid != self._child.pid:
                pid, health, answered = self._child.pid, None, time.monotonic()
            if time.monotonic() < looked + (_HEALTH_EVERY_S if self._state == READY else _TICK_S):
                continue
            looked = time.monotonic()
            if self._unwanted(self._settings):
                break
            if not self._found:
                self._found = self._written()
                answered = looked
            if self._found and self._kind == SERVER:
                health = health or self._health()
                if health is not None and health.alive():
                    answered, self._state = looked, READY
                elif looked > answered + _DEAD_AFTER_S:
                    _log.warning("replica.unhealthy", extra={"child": self._kind, "pid": self._child.pid})
                    self._child.kill()
            elif self._found:
                self._state = READY
        self._end()

    def _start(self) -> None:
        try:
            self._child.start()
        except OSError as error:  # the machine has no room for a process, and may have soon
            _log.error("replica.not_started", extra={"reason": str(error)})

    def _revive(self) -> None:
        self._child.revive()
        if self._child.backoff.failures > 5:  # elsewhere waits grow to half a minute; here others wait for it
            self._child.backoff.failures = 5

    def _end(self) -> None:
        self._state = DRAINING
        self._child.ask_to_end()
        until = time.monotonic() + self._end_s
        while self._child.alive() and time.monotonic() < until:
            time.sleep(_TICK_S)
        self._child.kill()
        self._slot.release()
        self._state = ENDED
        self._ended.set()

    def _written(self) -> dict[str, Any]:
        """Return what the process wrote about itself once it was ready, nothing before."""
        try:
            found: dict[str, Any] = json.loads(self._file.read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) and found.get("pid") == self._child.pid else {}

    def _health(self) -> Health | None:
        try:
            return Health(self._settings, str(self._found["address"]))
        except (Unavailable, OSError):
            return None


def _undo_rays_limits() -> None:
    """Have the child see the machine as a process that is started by hand sees it.

    Ray sets these in its workers, by what an actor asked for, which counts for placing alone.
    """
    given = b""
    with contextlib.suppress(OSError):  # what `ray start` was called with stays
        given = b"\0" + Path(f"/proc/{os.environ.get('RAY_RAYLET_PID', 'self')}/environ").read_bytes()
    for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"):
        if f"\0{name}=".encode() not in given:
            os.environ.pop(name, None)


def _last_words() -> str:
    """Return why the process could not start, as it said last in this actor's log, or where the log is."""
    with contextlib.suppress(OSError, ValueError):
        log = Path(os.readlink("/proc/self/fd/2"))
        if log.is_file():
            with log.open("rb") as file:
                file.seek(max(0, log.stat().st_size - 8192))
                lines = file.read().decode(errors="replace").splitlines()
            said = [line for line in lines if line.startswith("accrete: ")]
            return f"{said[-1].removeprefix('accrete: ') if said else 'it ends'} (log: {log})"
    return "it ends; Ray's logs on the node say why"
