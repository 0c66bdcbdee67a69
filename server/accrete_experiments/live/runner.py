"""Runs a session on a thread of its own, while the main thread starts and watches the node's processes."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

from accrete import AccreteError
from accrete_experiments.live.display import Display
from accrete_experiments.live.session import Course, Session, SessionFailed
from accrete_node.supervisor import Supervisor
from accrete_node.up import Signals, addresses

NEVER = 1_000_000_000
"""Of examples or seconds: more than any session brings."""
LOG_FILE = "processes.log"
_START_S = 60.0


def no_settings_file(data_dir: Path) -> Path:
    """Return an empty settings file: a session is the same wherever it runs."""
    file = data_dir / "none.toml"
    file.touch()
    return file


class SessionThread:
    """A session on its thread, and how it ended."""

    def __init__(self, course: Course, data_dir: Path, display: Display) -> None:
        self._course = course
        self._data_dir = data_dir
        self._display = display
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.summary: dict[str, Any] | None = None
        self.error: Exception | None = None

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    @property
    def over(self) -> bool:
        """Whether it has ended, well or not."""
        return self.summary is not None or self.error is not None

    def _run(self) -> None:
        try:
            self.summary = Session(self._course, self._address(), self._display).run()
        except (SessionFailed, AccreteError, OSError) as error:
            self.error = error
        except Exception as error:  # the main thread must learn of it, whatever it is
            self.error = error
            raise

    def _address(self) -> str:
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            found = addresses(self._data_dir)
            if found is not None:
                return found["address"]
            time.sleep(0.05)
        raise SessionFailed(f"the server did not start within {_START_S:.0f} s")


def run_session(running: Supervisor, session: SessionThread, signals: Signals) -> None:
    """Run the session to its end, or to the first signal.

    It has a thread of its own, for processes are started and watched over from the main one.
    """
    running.start()
    session.start()
    running.run(until=lambda: signals.count > 0 or session.over)


def log_end(data_dir: Path) -> str:
    """Return the last lines of the processes' log, nothing when there is none."""
    try:
        return "\n".join((data_dir / LOG_FILE).read_text(errors="replace").splitlines()[-15:])
    except OSError:
        return ""
