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

_TOGETHER_S = 0.010
"""Work that one turn may do for others in line besides its own: they wait less for it than for turns of their own, and
the one whose turn it is waits at most so much longer."""

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
        self._line: deque[Waiter] = deque()
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

    def enter(self, call: Call, task: object = None) -> float:
        """Waits for a turn; answers the seconds waited. A call with a `task` may find that done when this returns: then
        it has had no turn, and does not `leave`.

        Raises LimitExceeded when the line is full, DeadlinePassed or CallerGone when the turn comes too late.
        """
        with self._lock:
            if self._working < self._at_once:
                self._working += 1
                waiter = None
            else:
                waiter = self._line_up(call, task)
        started = time.perf_counter()
        if waiter is not None:
            self._wait(waiter, call)
            if waiter.is_along:
                return time.perf_counter() - started
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

    def enter_if_free(self) -> bool:
        """Takes a turn if one is free now, without a place in the line; answers whether it did."""
        with self._lock:
            is_free = self._working < self._at_once
            self._working += is_free
        return is_free

    def take_along(self) -> list[Waiter]:
        """Takes those with a task who are next in line out of it, for the one whose turn it is to do their tasks, too,
        and then to `finish` each of them. As many as take little time, and no more than this turn's share of the line.
        """
        with self._lock:
            room = min(int(_TOGETHER_S / self._mean_s) - 1, len(self._line) // self._at_once)
            taken: list[Waiter] = []
            while len(taken) < room and self._line[0].task is not None:
                taken.append(self._line.popleft())
                taken[-1].is_along = True
            return taken

    def leave(self, seconds: float, calls: int = 1) -> None:
        """Ends a turn that took `seconds` (0: not worth learning from) for so many calls."""
        with self._lock:
            if seconds:
                self._mean_s += _SMOOTHING * (seconds / calls - self._mean_s)
            if self._line:
                self._line.popleft().take_turn()
            else:
                self._working -= 1

    def refusal(self) -> LimitExceeded:
        """What a call is told for which there is no room; to be raised."""
        wait_s = max(0.01, self._mean_s * (self._queue + 1) / self._at_once)
        return LimitExceeded(self._limit, self._queue, "too many calls are waiting", wait_s)

    def _line_up(self, call: Call, task: object) -> Waiter:
        if len(self._line) >= self._queue or self._comes_too_late(call):
            raise self.refusal()
        waiter = Waiter(task)
        self._line.append(waiter)
        return waiter

    def _comes_too_late(self, call: Call) -> bool:
        """Whether its turn would likely come after its deadline. Were such calls to wait all the same, under overload
        every turn would come just before a deadline, and every answer after it."""
        remaining = call.time_remaining()
        return remaining is not None and remaining < _MARGIN * self._mean_s * (len(self._line) + 1) / self._at_once

    def _wait(self, waiter: Waiter, call: Call) -> None:
        """Waits until it is the waiter's turn; a call that ends before leaves the line at once."""
        if not call.add_callback(lambda: self._drop(waiter)):
            self._drop(waiter)
        remaining = call.time_remaining()
        waiter.wait(_LONGEST_WAIT_S if remaining is None else min(remaining, _LONGEST_WAIT_S))
        self._drop(waiter)
        waiter.wait_finished()
        if not waiter.has_turn and not waiter.is_along:
            check_still_wanted(call)
            raise DeadlinePassed("the deadline passed while waiting in line; nothing was computed")

    def _drop(self, waiter: Waiter) -> None:
        """Takes it out of the line, if it is still there."""
        with self._lock:
            if not waiter.has_turn and waiter in self._line:
                self._line.remove(waiter)
                waiter.stop_waiting()


class Waiter:
    """One call in line. Changes under the lock of its admission; a bare lock is the cheapest thing to wait on."""

    def __init__(self, task: object) -> None:
        self.task = task
        """What another call's turn may do for it; None: nothing."""
        self.has_turn = False
        self.is_along = False
        """Out of the line without a turn of its own: another's does its task."""
        self.since = 0.0
        self._finished = False
        self._gate = threading.Lock()
        self._gate.acquire()

    def take_turn(self) -> None:
        """Its turn has come."""
        self.has_turn, self.since = True, time.perf_counter()
        self._gate.release()

    def finish(self) -> None:
        """Its task has been done by another's turn."""
        self._finished = True
        self._gate.release()

    def stop_waiting(self) -> None:
        """It leaves without a turn."""
        self._gate.release()

    def wait(self, timeout: float) -> None:
        """Until any of these, or `timeout` seconds have passed."""
        self._gate.acquire(timeout=max(0.0, timeout))

    def wait_finished(self) -> None:
        """Until its task is done, if another's turn does it: it began in time, and takes little."""
        while self.is_along and not self._finished:
            self._gate.acquire()
