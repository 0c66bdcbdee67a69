"""`accrete up` runs the store, the server, the learner and the page on this machine until it is told to end."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from accrete_kit.plain import plain
from accrete_node import log
from accrete_node.exit_status import CANNOT_START
from accrete_node.libraries import check_learning, check_serving
from accrete_node.processes import begin_data_dir, command
from accrete_node.settings import Settings, SettingsError
from accrete_node.supervisor import CannotStart, Child, Supervisor
from accrete_node.weights import check_fit, check_weights
from accrete_storage.embedded.server import EmbeddedStore, claim
from accrete_storage.errors import StorageError
from accrete_storage.store_url import shown

_log = logging.getLogger(__name__)

_TICK_S = 0.05
_PAGE_S = 10.0
"""Seconds that are waited for the page after the server and the learner have come."""
_PREDECESSORS_S = 10.0
"""Longer than a server takes to drain."""


def supervisor(settings: Settings, log_file: Path | None = None) -> Supervisor:
    """Return a supervisor for the processes of these settings, without starting anything.

    The data directory is locked until the supervisor has ended everything, and nothing in it is written before.

    Args:
        settings: what the processes are started with.
        log_file: where their output goes; None sends it where this process's goes.

    Raises:
        SettingsError: the data directory cannot be used.
        DataDirInUse: another process serves it.
        OSError: it cannot be written.
    """
    begin_data_dir(settings)
    lock = claim(settings.data_dir)
    try:
        output = log_file.open("ab") if log_file is not None else None
        children = [
            Child(name, command(settings, verb), output) for name, verb in (("server", "serve"), ("learner", "learn"))
        ]
        if settings.serves_page:
            children.append(Child("page", command(settings, "page"), output, needed=False))
    except BaseException:
        lock.release()
        raise
    store = None if settings.store.url else EmbeddedStore(settings.data_dir, settings.store, lock)
    return Supervisor(store, children, lock=lock)


def up(settings: Settings) -> int:
    """Run until SIGINT or SIGTERM and return the exit status. A second signal ends everything by force."""
    log.set_up(settings.log, "up")
    signals = Signals()
    try:
        check_learning(settings)
        check_serving(settings)
        check_weights(settings)
        check_fit(settings)
        running = supervisor(settings)
    except (SettingsError, StorageError, OSError) as error:
        print(f"accrete: {plain(error)}", file=sys.stderr)
        return CANNOT_START
    try:
        with signals.interrupting():  # a store with much to load takes long to start
            running.start(Predecessors(settings.data_dir).gone)
        announce = threading.Thread(target=_announce, args=(settings, signals), daemon=True)
        announce.start()
        running.run(until=lambda: signals.count > 0)
        return 0
    except Interrupted:
        return 0
    except (CannotStart, StorageError, OSError) as error:
        print(f"accrete: {plain(error)}", file=sys.stderr)
        return CANNOT_START
    finally:
        running.end(hurry=lambda: signals.count > 1)


class Interrupted(BaseException):
    """SIGINT or SIGTERM arrived inside `Signals.interrupting`."""


class Signals:
    """Count SIGINT and SIGTERM."""

    def __init__(self) -> None:
        self.count = 0
        self._interrupts = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._arrived)

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """Let a signal that arrives inside, or came before, raise Interrupted."""
        self._interrupts = True
        try:
            if self.count:
                raise Interrupted
            yield
        finally:
            self._interrupts = False

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self._interrupts:
            self._interrupts = False  # the ending itself is not to be interrupted
            raise Interrupted


class Predecessors:
    """The processes of a supervisor that was killed, which end by themselves but hold port and lock."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._until = time.monotonic() + _PREDECESSORS_S

    def gone(self) -> bool:
        """Return whether they have ended, or have had all the time that this takes."""
        if time.monotonic() > self._until:
            return True
        found = (addresses(self._data_dir, process) for process in ("server", "learner", "page"))
        return not any(_is_ours(int(one["pid"])) for one in found if one is not None)


def _is_ours(pid: int) -> bool:
    """Return whether a process is one of ours, for its number may have gone to another."""
    try:
        return b"accrete_node" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def addresses(data_dir: Path, process: str = "server") -> dict[str, str] | None:
    """Return what a process ("server", "learner" or "page") wrote about itself, or None while it is not there."""
    try:
        found = json.loads((data_dir / f"{process}.json").read_text("utf-8"))
        os.kill(found["pid"], 0)  # the file of a killed process tells nothing
    except (OSError, ValueError, KeyError, TypeError, OverflowError):  # nor does one that a loss of power left half
        return None
    return {name: str(value) for name, value in found.items()}


def _announce(settings: Settings, signals: Signals) -> None:
    """Print where everything is once all processes are there, or all but a page that does not come."""
    came: float | None = None
    while signals.count == 0:
        server, learner, page = (addresses(settings.data_dir, name) for name in ("server", "learner", "page"))
        if server is not None and learner is not None:
            came = time.monotonic() if came is None else came
            if page is not None or not settings.serves_page or time.monotonic() > came + _PAGE_S:
                _log.info(
                    "node.ready", extra={"address": server["address"], "data_dir": str(settings.data_dir.resolve())}
                )
                # On standard output alone, and the log on the other.
                print(banner(settings, server, learner, page), flush=True)
                return
        time.sleep(_TICK_S)


def banner(
    settings: Settings, server: dict[str, str], learner: dict[str, str], page: dict[str, str] | None = None
) -> str:
    """Return what a node says once it serves, from its settings and what `addresses` found."""
    encrypted = bool(settings.access.certificate)
    options = f"--address {server['address']}{' --tls' if encrypted else ''}"
    options += " --token-file FILE" if settings.access.tokens else ""
    metrics = f"http{'s' if encrypted else ''}://{server['metrics']}/metrics"
    return "\n".join(
        [
            f"Accrete serves on {server['address']}",
            f"  data      {_printable(settings.data_dir.resolve())}",
            f"  store     {shown(settings.store.url) or 'embedded'}",
            f"  method    {settings.method.name}, {settings.model.backbone}, input {settings.input_spec}",
            f"  metrics   {metrics}, http://{learner['metrics']}/metrics (learner)",
            f"  page      {_page_line(settings, page)}",
            f"  teach     accrete add {options} FOLDER    (one folder of images a label)",
            f"  ask       accrete predict {options} IMAGE",
            "  end       Ctrl-C",
        ]
    )


def _page_line(settings: Settings, page: dict[str, str] | None) -> str:
    if page is not None:
        return page["address"]
    if settings.serves_page:
        return "does not start; the log says why"
    return "off (page.enabled)" if not settings.page.enabled else "off (access.client_ca lets in certificates alone)"


def _printable(path: Path) -> str:
    """Return a path on one line, quoted where it has what a terminal does not print."""
    return str(path) if str(path).isprintable() else repr(str(path))
