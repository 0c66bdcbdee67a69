"""Waits that double with each failure in a row."""

from __future__ import annotations

import math
import time


def wait_after(failures: int, *, first_s: float, last_s: float = math.inf) -> float:
    """Return the seconds to wait after a number of failures in a row: `first_s`, doubled by each but the first.

    Args:
        failures: 1 or more.
        first_s: wait after the first failure.
        last_s: longest wait.
    """
    # Larger powers of 2 than this are no floats.
    return min(last_s, first_s * 2.0 ** min(failures - 1, 1000))


class Backoff:
    """When to try again. Not safe to use from several threads at once."""

    def __init__(self, *, first_s: float, last_s: float) -> None:
        """Wait `first_s` seconds after the first failure, twice as long after each other one, and at most `last_s`."""
        self._first_s = first_s
        self._last_s = last_s
        self._not_before = -math.inf
        self.failures = 0
        """Failures in a row."""

    def failed(self) -> float:
        """Count a failure; return the seconds to wait from now on."""
        self.failures += 1
        wait_s = wait_after(self.failures, first_s=self._first_s, last_s=self._last_s)
        self._not_before = time.monotonic() + wait_s
        return wait_s

    def reset(self) -> None:
        """Forget the failures: the next wait is as short as the first."""
        self.failures = 0
        self._not_before = -math.inf

    def due(self) -> bool:
        """Return whether the wait is over; True before the first failure."""
        return time.monotonic() >= self._not_before
