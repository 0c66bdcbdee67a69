"""Admission: which call works now, which waits in line, and which is refused at once."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from accrete_server.errors import CallerGone, DeadlinePassed, LimitExceeded

Task = TypeVar("Task")

_SMOOTHING = 0.05  # weight of the latest turn in the mean length of turns

_MARGIN = 2.0  # by which a deadline has to exceed the likely wait: turns differ, and the response takes one more

_GATHERED_S = 0.010
"""Work in seconds that one turn may do for others in line besides its own: they wait less for it than for turns of
their own, and the call whose turn it is waits at most so much longer."""

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


class Admission(Generic[Task]):
    """A limit of `at_once` calls at work and `queue` calls in line, first come first served.

    `enter` and `leave` belong together. `leave` hands the turn to the next in line.
    """

    def __init__(self, *, limit: str, at_once: int, queue: int) -> None:
        """Start with no call at work and none in line.

        Args:
            limit: The name of the limit that a refused caller reads.
            at_once: Calls at work at most.
            queue: Calls in line at most.
        """
        self._limit = limit
        self._at_once = at_once
        self._queue = queue
        self._lock = threading.Lock()
        self._working = 0
        self._busy_s = 0.0
        self._changed_s = time.perf_counter()
        self._line: deque[Waiter[Task]] = deque()
        self._mean_s = 0.001

    @property
    def waiting(self) -> int:
        """Calls in line now."""
        return len(self._line)

    @property
    def working(self) -> int:
        """Calls at work now."""
        return self._working

    def busy_s(self) -> float:
        """Return the seconds that a turn was taken since the beginning, on average over all turns."""
        with self._lock:
            self._count(0)
            return self._busy_s / self._at_once

    def is_full(self, coming: int = 0) -> bool:
        """Return whether a call would be refused that comes now, behind `coming` that are on their way.

        `enter` has the last word.
        """
        return self._working >= self._at_once and len(self._line) + coming >= self._queue

    def enter(self, call: Call, task: Task | None = None) -> bool:
        """Wait for a turn.

        Args:
            call: The call that wants a turn.
            task: What another call's turn may do for this call; None: nothing.

        Returns:
            Whether the call has a turn now, which it must `leave`. False: another call's turn has done the task.

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
                waiter = self._line_up(call, task)
        if waiter is not None:
            self._wait(waiter, call)
            if waiter.is_gathered:
                return False
        try:
            check_still_wanted(call)
        except BaseException:
            self.leave(0.0)
            raise
        if waiter is not None:  # the time to wake up is the turn's: no other call has it
            now = time.perf_counter()
            with self._lock:
                self._mean_s += _SMOOTHING * (now - waiter.turn_began)
        return True

    def enter_if_free(self) -> bool:
        """Take a turn if one is free now, without a place in line. Return whether there was one."""
        with self._lock:
            is_free = self._working < self._at_once
            if is_free:
                self._count(1)
        return is_free

    def gather(self) -> list[Waiter[Task]]:
        """Take calls with a task from the front of the line, for a call that has a turn to do their tasks with its own.

        Returns:
            As many as take little time, and no more than one turn's share of the line. Each must be told to `finish`.
        """
        with self._lock:
            most = min(int(_GATHERED_S / self._mean_s) - 1, len(self._line) // self._at_once)
            gathered: list[Waiter[Task]] = []
            while len(gathered) < most and self._line[0].task is not None:
                gathered.append(self._line.popleft())
                gathered[-1].is_gathered = True
            return gathered

    def leave(self, seconds: float, calls: int = 1) -> None:
        """End a turn.

        Args:
            seconds: How long it took; 0: not worth learning from.
            calls: The calls whose work was done in it.
        """
        with self._lock:
            if seconds:
                self._mean_s += _SMOOTHING * (seconds / calls - self._mean_s)
            if self._line:
                self._line.popleft().take_turn()
            else:
                self._count(-1)

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

    def _line_up(self, call: Call, task: Task | None) -> Waiter[Task]:
        if len(self._line) >= self._queue or self._comes_too_late(call):
            raise self.refusal()
        waiter = Waiter(task)
        self._line.append(waiter)
        return waiter

    def _comes_too_late(self, call: Call) -> bool:
        """Return whether the turn would likely come after the deadline.

        If such calls waited all the same, under overload every turn would come just before a deadline, and every
        response after it.
        """
        remaining = call.time_remaining()
        return remaining is not None and remaining < _MARGIN * self._mean_s * (len(self._line) + 1) / self._at_once

    def _wait(self, waiter: Waiter[Task], call: Call) -> None:
        """Wait until it is the waiter's turn. A call that ends before leaves the line at once."""
        if not call.add_callback(lambda: self._drop(waiter)):
            self._drop(waiter)
        remaining = call.time_remaining()
        waiter.wait(_LONGEST_WAIT_S if remaining is None else min(remaining, _LONGEST_WAIT_S))
        self._drop(waiter)
        waiter.wait_finished()
        if not waiter.has_turn and not waiter.is_gathered:
            check_still_wanted(call)
            raise DeadlinePassed("the deadline passed while waiting in line; nothing was computed")

    def _drop(self, waiter: Waiter[Task]) -> None:
        """Take a waiter out of the line if it is still there."""
        with self._lock:
            if not waiter.has_turn and waiter in self._line:
                self._line.remove(waiter)
                waiter.stop_waiting()


class Waiter(Generic[Task]):
    """One call in line. It changes under the lock of its admission. A bare lock is the cheapest thing to wait for."""

    def __init__(self, task: Task | None) -> None:
        self.task = task
        """What another call's turn may do for this one; None: nothing."""
        self.has_turn = False
        self.is_gathered = False
        """Whether it is out of the line without a turn of its own, for another call's turn to do its task."""
        self.turn_began = 0.0
        """When it got its turn (`time.perf_counter`)."""
        self._finished = False
        self._gate = threading.Lock()
        self._gate.acquire()

    def take_turn(self) -> None:
        """Wake the call up for its turn."""
        self.has_turn, self.turn_began = True, time.perf_counter()
        self._gate.release()

    def finish(self) -> None:
        """Wake the call up because another call's turn has done its task."""
        self._finished = True
        self._gate.release()

    def stop_waiting(self) -> None:
        """Wake the call up without a turn."""
        self._gate.release()

    def wait(self, timeout: float) -> None:
        """Wait until the call is woken up, at most `timeout` seconds."""
        self._gate.acquire(timeout=max(0.0, timeout))

    def wait_finished(self) -> None:
        """Wait until the task is done if another call's turn does it. That began in time and takes little."""
        while self.is_gathered and not self._finished:
            self._gate.acquire()
