"""Answers that come later than they should, and the learner's being asked to yield to them.

Where both share cores, the kernel sees to it by their priorities, and better. It cannot where they share a GPU, nor
where each has a container of its own.
"""

from __future__ import annotations

from accrete_kit.periodic import PeriodicTask
from accrete_server.store_connection import StoreLink
from accrete_storage.errors import StorageError

LOOK_S = 0.25
"""Seconds between two looks at what was answered."""

_WINDOW = 4  # looks that count together: one second
_ASK_S = 2 * LOOK_S  # how long a request holds: it is gone soon after the last late answer, or with this server


class Lateness:
    """Counts predictions that took longer than the target; while over one in a hundred does, asks training to yield."""

    def __init__(self, target_s: float, link: StoreLink) -> None:
        """`target_s`: of 99 in a hundred, from the handler's start to its end; 0: nobody is asked for anything."""
        self._target_s = target_s
        self._link = link
        self._answered = self._late = 0
        self._looks = [(0, 0)]
        # An outage of the store is told by who follows it, and without a store nothing new is learned.
        self._task = PeriodicTask("lateness", self._look, every_s=LOOK_S, expected=StorageError)

    def answered(self, seconds: float) -> None:
        """One prediction was answered. Calls may race each other: a count that is lost now and then changes nothing."""
        self._answered += 1
        if seconds > self._target_s:
            self._late += 1

    def start(self) -> None:
        """Starts to look, when there is a target."""
        if self._target_s:
            self._task.start()

    def stop(self) -> None:
        """Asks no more; returns when the thread has ended."""
        self._task.stop()

    def too_many(self) -> bool:
        """Whether more than one in a hundred was late in the last second of looks. One alone never is too many."""
        self._looks = [*self._looks[-_WINDOW:], (self._answered, self._late)]
        (before, late_before), (now, late_now) = self._looks[0], self._looks[-1]
        return late_now - late_before > max(1.0, (now - before) / 100)

    def _look(self) -> None:
        if self.too_many():
            self._link.get().control.ask_to_yield(_ASK_S)
