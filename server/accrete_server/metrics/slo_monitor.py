"""The latency target of predictions, and the learner's being asked to yield while it is missed.

Where both share cores, the kernel sees to it by their priorities, and better. It cannot where they share a GPU, nor
where each has a container of its own.
"""

from __future__ import annotations

from accrete_kit.periodic import PeriodicTask
from accrete_server.store_connection import StoreConnection
from accrete_storage.errors import StorageError

CHECK_S = 0.25
"""Seconds between two checks of the target."""

_WINDOW = 4  # checks that count together: one second
_REQUEST_S = 2 * CHECK_S  # how long a request to yield holds: it ends soon after the last late answer, or this server


class SloMonitor:
    """Count predictions slower than the target, and ask training to yield while more than one in a hundred is."""

    def __init__(self, target_s: float, connection: StoreConnection) -> None:
        """Start nothing yet.

        Args:
            target_s: seconds in which 99 of 100 predictions are to be answered, from the handler's start to its end;
                0: there is no target.
            connection: where training is asked to yield.
        """
        self._target_s = target_s
        self._connection = connection
        self._answered = self._late = 0
        self._checks = [(0, 0)]
        # Without the store nothing new is learned, and StoreSync tells of the outage.
        self._task = PeriodicTask("slo-monitor", self._check, every_s=CHECK_S, expected=StorageError)

    def observe(self, seconds: float) -> None:
        """Count one answered prediction.

        Calls may race each other, since a count lost now and then changes nothing.
        """
        self._answered += 1
        if seconds > self._target_s:
            self._late += 1

    def start(self) -> None:
        """Start to check, if there is a target."""
        if self._target_s:
            self._task.start()

    def stop(self) -> None:
        """Stop checking, and return when the thread has ended."""
        self._task.stop()

    def is_missed(self) -> bool:
        """Return whether more than one in a hundred was late in the last second of checks, of which this is one.

        A single late prediction never misses the target, however few there were.
        """
        self._checks = [*self._checks[-_WINDOW:], (self._answered, self._late)]
        (answered_before, late_before), (answered, late) = self._checks[0], self._checks[-1]
        return late - late_before > max(1.0, (answered - answered_before) / 100)

    def _check(self) -> None:
        if self.is_missed():
            self._connection.store().control.ask_to_yield(_REQUEST_S)
