"""A function that is called again and again on a thread of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

_log = logging.getLogger(__name__)


class PeriodicTask:
    """Call `work` every `every_s` seconds on a daemon thread, from `start` to `stop`."""

    def __init__(
        self,
        name: str,
        work: Callable[[], None],
        *,
        every_s: float,
        expected: type[Exception] | tuple[type[Exception], ...] = (),
        on_error: Callable[[Exception], None] | None = None,
        before: Callable[[], None] | None = None,
    ) -> None:
        """Make the task without starting it.

        Args:
            name: of the thread, and of the task in the log.
            work: what to call; it may call `wait` to sleep until the task is stopped.
            every_s: seconds to wait before each call; 0 for work that waits by itself.
            expected: errors that are logged at debug level and followed by the next call, such as an outage.
            on_error: called on the thread with any other error, which is logged and ends the task.
            before: called once on the thread before the first wait, as to lower its priority.
        """
        self._name = name
        self._work = work
        self._every_s = every_s
        self._expected = expected
        self._on_error = on_error
        self._before = before
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout_s: float | None = None) -> None:
        """End the task, and wait up to `timeout_s` seconds for the call in progress; None waits as long as it takes."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def wait(self, seconds: float) -> bool:
        """Sleep; return True, at once, when the task is to stop."""
        return self._stopping.wait(seconds)

    @property
    def stopping(self) -> bool:
        """Whether the task is to stop."""
        return self._stopping.is_set()

    def _run(self) -> None:
        try:
            if self._before is not None:
                self._before()
            while not self.wait(self._every_s):
                self._call()
        except Exception as error:
            _log.exception("task.failed", extra={"task": self._name})
            if self._on_error is not None:
                self._on_error(error)

    def _call(self) -> None:
        try:
            self._work()
        except self._expected as error:
            _log.debug("task.skipped", extra={"task": self._name, "reason": str(error)})
