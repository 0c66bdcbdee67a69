"""A process's processor time between two moments, however its callers start and end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from benchmarks.node import side_by_side

_EVERY_S = 0.01


class CpuWatch:
    """Reads the kernel's clock of one or several processes all the time."""

    def __init__(self, read: Callable[[], float]) -> None:
        """Read nothing yet. `read` returns seconds of processor time so far."""
        self._read = read
        self._moments: list[tuple[float, float]] = []

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Read while the block runs."""

        def watch(enough: threading.Event) -> None:
            while not enough.wait(_EVERY_S):
                self._note()

        self._moments.clear()
        self._note()
        with side_by_side(watch):
            yield
        self._note()

    def between(self, since: float, until: float) -> float:
        """Return the seconds of processor time between two moments of `time.perf_counter`."""
        moments: Sequence[float]
        moments, spent = zip(*self._moments, strict=True)
        return float(np.interp(until, moments, spent) - np.interp(since, moments, spent))

    def _note(self) -> None:
        self._moments.append((time.perf_counter(), self._read()))
