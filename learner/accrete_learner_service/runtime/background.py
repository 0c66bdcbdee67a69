"""Work beside the steps: a function called again and again on a thread of its own."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable

from accrete_learner_service.runtime.logs import fields
from accrete_storage.errors import StoreUnavailable

log = logging.getLogger(__name__)


class Repeated:
    """Calls `work` every `every_s`, through outages of the store; any other error is for `on_error`, and ends it."""

    def __init__(
        self, name: str, work: Callable[[], None], *, every_s: float, nice: int, on_error: Callable[[Exception], None]
    ) -> None:
        self._name = name
        self._work = work
        self._every_s = every_s
        self._nice = nice
        self._on_error = on_error
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._repeat, name=name, daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Waits for the call in progress and ends the thread."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def _repeat(self) -> None:
        lower_priority(self._nice)
        while not self._stopping.wait(self._every_s):
            try:
                self._work()
            except StoreUnavailable as error:
                log.debug("store.unavailable", extra=fields(work=self._name, reason=str(error)))
            except Exception as error:
                log.exception("background.failed", extra=fields(work=self._name))
                self._on_error(error)
                return


def lower_priority(nice: int) -> None:
    """Sets the priority of the calling thread alone, as Linux does given a thread's id; never raises it."""
    thread = threading.get_native_id()
    os.setpriority(os.PRIO_PROCESS, thread, max(nice, os.getpriority(os.PRIO_PROCESS, thread)))
