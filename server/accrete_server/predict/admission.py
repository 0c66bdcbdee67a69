"""Admission: which call works now, which waits in line, and which is refused at once."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from accrete_server.errors import CallerGone, DeadlinePassed, LimitExceeded

Waiting = TypeVar("Waiting")

_SMOOTHING = 0.05  # weight of the latest turn in the mean length of turns

_MARGIN = 2.0  # by which a deadline has to exceed the likely wait: turns differ, and the response takes one more

_LONGEST_WAIT_S = 86_400.0  # a call without a deadline has one in the year 292 million, which no clock can wait for


class Call(Protocol):
    """The part of a call under way that admission needs; grpc's ServicerContext has it."""

    def is_active(self) -> bool:
        """Return whether the caller still waits."""
        ...

    def time_remaining(self) -> float | None:
        """Return the seconds until the caller's deadline, None without one."""
        ...

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Run `callback` when the call ends. Return False when it has ended already."""
        ...


def check_still_wanted(call: Call) -> None:
    """Check that a caller still waits for the response.

    Raises:
        DeadlinePassed: the deadline has passed.
        CallerGone: the caller has hung up.
    """
    remaining = call.time_remaining()
    if remaining is not None and remaining <= 0:
        raise DeadlinePassed("the deadline passed before the work began; nothing was computed")
    if not call.is_active():
        raise CallerGone("the caller hung up; nothing was computed")


def seconds_left(call: Call) -> float:
    """Return how long a thread may wait for what a call waits for."""
    remaining = call.time_remaining()
    return _LONGEST_WAIT_S if remaining is None else max(0.0, min(remaining, _LONGEST_WAIT_S))


class Turns(Generic[Waiting]):
    """A limit of `at_once` turns and `queue` calls in line, and how long turns take."""

    def __init__(self, *, limit: str, at_once: int, queue: int) -> None:
        """Start with no turn taken and no call in line.

        Args:
            limit: The name of the limit that a refused caller reads.
            at_once: Turns at the same time at most.
            queue: Calls in line at most.
        """
        self._limit = limit
        self._at_once = at_once
        self._queue = queue
        self._lock = threading.Lock()
        self._working = 0
        self._busy_s = 0.0
        self._changed_s = time.perf_counter()
        self._line: deque[Waiting] = deque()
        self._mean_s = 0.001

    @property
    def waiting(self) -> int:
        """Calls in line now."""
        return len(self._line)

    @property
    def working(self) -> int:
        """Turns taken now."""
        return self._working

    def busy_s(self) -> float:
        """Return the seconds that a turn was taken since the beginning, on average over all turns."""
        with self._lock:
            self._count(0)
            return self._busy_s / self._at_once

    @property
    def room(self) -> int:
        """Calls that may come before one is refused: for the turns that are free, and then for the line."""
        return self._queue + self._at_once - self._working - len(self._line)

    def is_full(self, coming: int = 0) -> bool:
        """Return whether a call would likely be refused that comes now.

        Args:
            coming: Calls on their way, of which nobody knows yet whether they are for these turns.
        """
        return self._working >= self._at_once and coming >= self.room

    def refusal(self) -> LimitExceeded:
        """Return the error, to be raised, of a call that finds the line full."""
        wait_s = max(0.01, self._mean_s * (self._queue + 1) / self._at_once)
        return LimitExceeded(self._limit, self._queue, "too many calls are waiting", wait_s)

    def _count(self, change: int) -> None:
        """Take or end so many turns. To be called with the lock."""
        now = time.perf_counter()
        self._busy_s += self._working * (now - self._changed_s)
        self._changed_s = now
        self._working += change

    def _learn(self, seconds: float) -> None:
        """Learn how long the work of one call takes. To be called with the lock."""
        self._mean_s += _SMOOTHING * (seconds - self._mean_s)

    def _check_room(self, call: Call) -> None:
        """Check that a call may stand in line. To be called with the lock.

        If calls waited whose turn would likely come after their deadline, under overload every turn would come just
        before a deadline, and every response after it.

        Raises:
            LimitExceeded: it may not.
        """
        if self.room <= 0:
            raise self.refusal()
        if self._working >= self._at_once:
            remaining = call.time_remaining()
            likely_s = self._mean_s * (len(self._line) + 1) / self._at_once
            if remaining is not None and remaining < _MARGIN * likely_s:
                raise self.refusal()


class Admission(Turns["Waiter"]):
    """Turns that calls take on their own threads, first come first served.

    `enter` and `leave` belong together. `leave` hands the turn to the next in line.
    """

    def enter(self, call: Call) -> None:
        """Wait for a turn, which the call must `leave`.

        Raises:
            LimitExceeded: the line is full, or the turn would likely come after the deadline.
            DeadlinePassed: the deadline passed first.
            CallerGone: the caller hung up first.
        """
        with self._lock:
            if self._working < self._at_once:
                self._count(1)
                waiter = None
            else:
                self._check_room(call)
                waiter = Waiter()
                self._line.append(waiter)
        if waiter is not None:
            self._wait(waiter, call)
        try:
            check_still_wanted(call)
        except BaseException:
            self.leave(0.0)
            raise
        if waiter is not None:  # the time to wake up is the turn's: no other call has it
            now = time.perf_counter()
            with self._lock:
                self._mean_s += _SMOOTHING * (now - waiter.turn_began)

    def enter_if_free(self) -> bool:
        """Take a turn if one is free now, without a place in line. Return whether there was one."""
        with self._lock:
            is_free = self._working < self._at_once
            if is_free:
                self._count(1)
        return is_free

    def leave(self, seconds: float) -> None:
        """End a turn that took `seconds`; 0: not worth learning from."""
        with self._lock:
            if seconds:
                self._learn(seconds)
            if self._line:
                self._line.popleft().take_turn()
            else:
                self._count(-1)

    def _wait(self, waiter: Waiter, call: Call) -> None:
        """Wait until it is the waiter's turn. A call that ends before leaves the line at once."""
        if not call.add_callback(lambda: self._drop(waiter)):
            self._drop(waiter)
        waiter.wait(seconds_left(call))
        self._drop(waiter)
        if not waiter.has_turn:
            check_still_wanted(call)
            raise DeadlinePassed("the deadline passed while waiting in line; nothing was computed")

    def _drop(self, waiter: Waiter) -> None:
        """Take a waiter out of the line if it is still there."""
        with self._lock:
            if not waiter.has_turn and waiter in self._line:
                self._line.remove(waiter)
                waiter.stop_waiting()


class Waiter:
    """One call in line. It changes under the lock of its admission. A bare lock is the cheapest thing to wait for."""

    def __init__(self) -> None:
        self.has_turn = False
        self.turn_began = 0.0
        """When it got its turn (`time.perf_counter`)."""
        self._gate = threading.Lock()
        self._gate.acquire()

    def take_turn(self) -> None:
        """Wake the call up for its turn."""
        self.has_turn, self.turn_began = True, time.perf_counter()
        self._gate.release()

    def stop_waiting(self) -> None:
        """Wake the call up without a turn."""
        self._gate.release()

    def wait(self, timeout: float) -> None:
        """Wait until the call is woken up, at most `timeout` seconds."""
        self._gate.acquire(timeout=timeout)
