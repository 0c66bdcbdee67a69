"""A call under way, as admission sees it, and a line that has seen some, for tests that need no network."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np

from accrete_server.predict.batcher import Request
from accrete_server.predict.line import Line


class TestCall:
    """A call with a deadline that can be hung up."""

    __test__ = False

    def __init__(self, timeout_s: float | None = None) -> None:
        self._until = None if timeout_s is None else time.monotonic() + timeout_s
        self._gone = threading.Event()
        self._callbacks: list[Callable[[], None]] = []

    def is_active(self) -> bool:
        return not self._gone.is_set()

    def time_remaining(self) -> float | None:
        return None if self._until is None else self._until - time.monotonic()

    def add_callback(self, callback: Callable[[], None]) -> bool:
        self._callbacks.append(callback)
        return not self._gone.is_set()

    def hang_up(self) -> None:
        self._gone.set()
        for callback in self._callbacks:
            callback()


def learned_line(at_once: int = 1, queue: int = 64, image_s: float = 0.001) -> Line:
    """A line that has learned how long an image takes."""
    line = Line(limit="queue", at_once=at_once, queue=queue)
    for _ in range(300):
        line.enter(Request(lambda: np.zeros(0), TestCall()))
        line.leave(line.take(), image_s)
    return line
