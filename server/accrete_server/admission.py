"""Who may work now, who waits, and who is refused at once."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from accrete_server.errors import CallerGone, DeadlinePassed, LimitExceeded

_SMOOTHING = 0.05  # weight of the latest turn in the mean length of turns

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
                waiter = self._line_up()
        started = time.perf_counter()
        if waiter is not None:
            self._wait(waiter, call)
        try:
            check_still_wanted(call)
        except BaseException:
            self.leave(0.0)
            raise
        return time.perf_counter() - started

    def leave(self, seconds: float) -> None:
        """Ends a turn that took `seconds` (0: not worth learning from)."""
        with self._lock:
            if seconds:
                self._mean_s += _SMOOTHING * (seconds - self._mean_s)
            while self._line:
                if self._line.popleft().wake():
                    return
            self._working -= 1

    def _line_up(self) -> _Waiter:
        if len(self._line) >= self._queue:
            wait_s = max(0.01, self._mean_s * (self._queue + 1) / self._at_once)
            raise LimitExceeded(self._limit, self._queue, "too many calls are waiting", wait_s)
        waiter = _Waiter()
        self._line.append(waiter)
        return waiter

    def _wait(self, waiter: _Waiter, call: Call) -> None:
        """Waits until it is the waiter's turn; a call that ends before leaves the line at once."""
        if not call.add_callback(lambda: self._drop(waiter)):
            self._drop(waiter)
        remaining = call.time_remaining()
        if waiter.wait(_LONGEST_WAIT_S if remaining is None else min(remaining, _LONGEST_WAIT_S)):
            return
        self._drop(waiter)
        check_still_wanted(call)
        raise DeadlinePassed("the deadline passed while waiting in line; nothing was computed")

    def _drop(self, waiter: _Waiter) -> None:
        with self._lock:
            if waiter in self._line:
                self._line.remove(waiter)
        waiter.give_up()


class _Waiter:
    """One call in line: either its turn comes, or it gives up, whichever is first."""

    def __init__(self) -> None:
        self._settled = threading.Lock()
        self._done = threading.Event()
        self._turn: bool | None = None

    def wake(self) -> bool:
        """Gives it the turn; False when it has given up."""
        return self._settle(True)

    def give_up(self) -> None:
        """Leaves without a turn, unless the turn has come already."""
        self._settle(False)

    def wait(self, timeout: float) -> bool:
        """Whether its turn came within `timeout` seconds. Not coming is not giving up; see `give_up`."""
        self._done.wait(timeout)
        if self._turn is None:
            self._settle(False)
        return bool(self._turn)

    def _settle(self, turn: bool) -> bool:
        with self._settled:
            if self._turn is None:
                self._turn = turn
                self._done.set()
            return self._turn is turn
