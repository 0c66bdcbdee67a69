"""Calls with a deadline and retries, which all of the client's logic makes."""

from __future__ import annotations

import math
import random
import time
from dataclasses import dataclass, field
from typing import TypeVar

from .._config import Endpoint, Retry
from .._errors import AccreteError, DeadlineExceeded, InvalidInput, Unavailable
from .base import Transport
from .diagnosis import Diagnosis, diagnose, judge_answer
from .methods import Method

Q = TypeVar("Q")
R = TypeVar("R")

_LEAST_S = 0.001  # gRPC takes no deadline that has passed


class Deadline:
    """A moment, a number of seconds from now."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left_s(self) -> float:
        """Return the seconds until then; below 0 when it has passed."""
        return self._end - time.monotonic()


@dataclass(slots=True)
class Contact:
    """Whether the server has ever answered this client."""

    made: bool = False


@dataclass(frozen=True, kw_only=True)
class Caller:
    """What the calls of one client share."""

    transport: Transport
    endpoint: Endpoint
    timeout_s: float
    retry: Retry
    generator: random.Random = field(default_factory=random.Random)
    """Jitters the pauses. It needs no seed, since no result depends on it."""
    contact: Contact = field(default_factory=Contact)

    def __post_init__(self) -> None:
        self.seconds(self.timeout_s)

    async def call(self, method: Method[Q, R], request: Q, timeout: float | None = None) -> R:
        """Make one call, and make it again while it may be (see `Retry`), all within `timeout` seconds.

        Raises:
            AccreteError: the last attempt's.
        """
        deadline = Deadline(self.seconds(timeout))
        backoff = Backoff(self, deadline)
        while True:
            try:
                response = await self.transport.unary(method, request, max(deadline.left_s(), _LEAST_S))
            except AccreteError as error:
                await backoff.pause(error)
            else:
                self.contact.made = True
                return response

    async def judge(self, error: AccreteError) -> Diagnosis | None:
        """Return what keeps the server from being reached, if that is known, and say it in the error."""
        answered = isinstance(error, Unavailable) and error.retry_after is not None
        if not isinstance(error, Unavailable | DeadlineExceeded) or answered:
            if not self.contact.made:
                error.details = judge_answer(error.details, self.endpoint) or error.details
            self.contact.made = True
        if answered or not isinstance(error, Unavailable | DeadlineExceeded):
            return None
        found = await self.transport.offload(lambda: diagnose(self.endpoint))
        if found is not None:
            error.details = found.text
        return found

    def seconds(self, timeout: float | None) -> float:
        """Return the timeout, which is the client's own for None.

        Raises:
            InvalidInput: it is not positive, or not finite.
        """
        seconds = self.timeout_s if timeout is None else timeout
        if not 0 < seconds < float("inf"):
            raise InvalidInput(f"timeout {seconds}: a positive number of seconds is allowed")
        return seconds


class Backoff:
    """Counts failures in a row, and pauses between them for as long as the deadline and the policy allow."""

    def __init__(self, caller: Caller, deadline: Deadline | None = None) -> None:
        self._caller = caller
        self._given = deadline
        self._begin()

    def reset(self) -> None:
        """Note progress: without a given deadline, an outage that comes now has the full time again."""
        self._caller.contact.made = True
        self._begin()

    def _begin(self) -> None:
        self._count = 0
        self._deadline = self._given
        self._failing_since_s: float | None = None

    async def pause(self, error: AccreteError, seconds: float | None = None) -> None:
        """Wait until it is time to try again.

        Args:
            error: what the attempt failed with.
            seconds: without a given deadline, how long after the first failure it is worth trying.

        Raises:
            AccreteError: `error`, when the next attempt would come too late or waiting does not help.
        """
        self._count += 1
        now_s = time.monotonic()
        if self._failing_since_s is None:
            self._failing_since_s = now_s
        if self._deadline is None:
            self._deadline = Deadline(self._caller.seconds(seconds))
        pause_s = self._caller.retry.pause_s(error, self._count, self._caller.generator)
        if error.elsewhere and pause_s is not None:
            pause_s = 0.0
        last = pause_s is None or pause_s >= self._deadline.left_s()
        new = not self._caller.contact.made
        if new or (last and isinstance(error, Unavailable)):
            found = await self._caller.judge(error)
            left_s = self._failing_since_s + self._caller.retry.first_s - now_s
            if found is not None and new and pause_s is not None:
                # An attempt that met with silence has lasted for seconds itself (`CONNECT_S`).
                enough = found.slow and math.isfinite(left_s)
                last = last or found.hopeless or enough or left_s <= 0
                pause_s = min(pause_s, left_s)
        if last or pause_s is None:
            error.attempts = self._count
            raise error
        if pause_s:
            await self._caller.transport.sleep(pause_s)
