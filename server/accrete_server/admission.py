"""Who may work now, who waits, and who is refused at once."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from accrete_server.errors import CallerGone, DeadlinePassed, LimitExceeded

_SMOOTHING = 0.05  # weight of the latest turn in the mean length of turns

_MARGIN = 2.0  # by which a deadline has to exceed the likely wait: turns differ, and an answer takes one more

_LONGEST_WAIT_S = 86_400.0  # a call without a deadline has one in the year 292 million, which no clock can wait for


class Call(Protocol):
    """What is asked of a call under way; grpc's ServicerContext has it."""

    def is_active(self) -> bool:
        """Whether the caller still waits."""
        ...

    def time_remaining(self) -> float | None:
        """Seconds until the caller's deadline; None without one."""
        ...

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Runs `callback` when the call ends; False when it has ended already."""
        ...


def check_still_wanted(call: Call) -> None:
    """Raises DeadlinePassed or CallerGone for a call whose answer nobody waits for any more."""
    remaining = call.time_remaining()
    if remaining is not None and remaining <= 0:
        raise DeadlinePassed("the deadline passed before the work began; nothing was computed")
    if not call.is_active():
        raise CallerGone("the caller hung up; nothing was computed")


class Admission:
    """At most `at_once` calls work, at most `queue` wait, first come first served.

    `enter` and `leave` belong together; `leave` hands the turn to the next in line.
    """

    def __init__(self, *, limit: str, at_once: int, queue: int) -> None:
        """`limit` is the name that a refused caller reads."""
        self._limit = limit
        self._at_once = at_once
        self._queue = queue
        self._lock = threading.Lock()
        self._working = 0
        self._line: deque[_Waiter] = deque()
        self._mean_s = 0.001

    @property
    def waiting(self) -> int:
        """Calls in line now."""
        return len(self._line)

    def is_full(self, coming: int = 0) -> bool:
        """Whether a call that comes now, behind `coming` that are on their way, would be refused; `enter` has the last
        word."""
        return self._working >= self._at_once and len(self._line) + coming >= self._queue

    @property
    def working(self) -> int:
        """Calls at work now."""
        return self._working

    def enter(self, call: Call) -> float:
        """Waits for a turn; answers the seconds waited.

        Raises LimitExceeded when the line is full, DeadlinePassed or CallerGone when the turn comes too late.
        """
        with self._lock:
            if self._working < self._at_once:
                self._working += 1
                waiter = None
            else:
                waiter = self._line_up(call)
        started = time.perf_counter()
        if waiter is not None:
            self._wait(waiter, call)
        try:
            check_still_wanted(call)
        except BaseException:
            self.leave(0.0)
            raise
        now = time.perf_counter()
        if waiter is not None:  # the time to wake up is the turn's: nobody else has it
            with self._lock:
                self._mean_s += _SMOOTHING * (now - waiter.since)
        return now - started

    def leave(self, seconds: float) -> None:
        """Ends a turn that took `seconds` (0: not worth learning from)."""
        with self._lock:
            if seconds:
                self._mean_s += _SMOOTHING * (seconds - self._mean_s)
            if self._line:
                self._line.popleft().take_turn()
            else:
                self._working -= 1

    def refusal(self) -> LimitExceeded:
        """What a call is told for which there is no room; to be raised."""
        wait_s = max(0.01, self._mean_s * (self._queue + 1) / self._at_once)
        return LimitExceeded(self._limit, self._queue, "too many calls are waiting", wait_s)

    def _line_up(self, call: Call) -> _Waiter:
        if len(self._line) >= self._queue or self._comes_too_late(call):
            raise self.refusal()
        waiter = _Waiter()
        self._line.append(waiter)
        return waiter

    def _comes_too_late(self, call: Call) -> bool:
        """Whether its turn would likely come after its deadline. Were such calls to wait all the same, under overload
        every turn would come just before a deadline, and every answer after it."""
        remaining = call.time_remaining()
        return remaining is not None and remaining < _MARGIN * self._mean_s * (len(self._line) + 1) / self._at_once

    def _wait(self, waiter: _Waiter, call: Call) -> None:
        """Waits until it is the waiter's turn; a call that ends before leaves the line at once."""
        if not call.add_callback(lambda: self._drop(waiter)):
            self._drop(waiter)
        remaining = call.time_remaining()
        waiter.wait(_LONGEST_WAIT_S if remaining is None else min(remaining, _LONGEST_WAIT_S))
        self._drop(waiter)
        if not waiter.has_turn:
            check_still_wanted(call)
            raise DeadlinePassed("the deadline passed while waiting in line; nothing was computed")

    def _drop(self, waiter: _Waiter) -> None:
        """Takes it out of the line, if it is still there."""
        with self._lock:
            if not waiter.has_turn and waiter in self._line:
                self._line.remove(waiter)
                waiter.stop_waiting()


class _Waiter:
    """One call in line. Changes under the lock of its admission; a bare lock is the cheapest thing to wait on."""

    def __init__(self) -> None:
        self.has_turn = False
        self.since = 0.0
        self._gate = threading.Lock()
        self._gate.acquire()

    def take_turn(self) -> None:
        """Its turn has come."""
        self.has_turn, self.since = True, time.perf_counter()
        self._gate.release()

    def stop_waiting(self) -> None:
        """It leaves without a turn."""
        self._gate.release()

    def wait(self, timeout: float) -> None:
        """Until either, or `timeout` seconds have passed."""
        self._gate.acquire(timeout=max(0.0, timeout))
