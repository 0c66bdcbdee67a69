"""Calls with a deadline and retries, which all of the client's logic makes."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from typing import TypeVar

from .._config import Retry
from .._errors import AccreteError, InvalidInput
from .base import Transport
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


@dataclass(frozen=True, kw_only=True)
class Caller:
    """What the calls of one client share."""

    transport: Transport
    timeout_s: float
    retry: Retry
    generator: random.Random = field(default_factory=random.Random)
    """Jitters the pauses. It needs no seed, since no result depends on it."""

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
                return await self.transport.unary(method, request, max(deadline.left_s(), _LEAST_S))
            except AccreteError as error:
                await backoff.pause(error)

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
        self.reset()

    def reset(self) -> None:
        """Note progress: without a given deadline, an outage that comes now has the full time again."""
        self._count = 0
        self._deadline = self._given

    async def pause(self, error: AccreteError, seconds: float | None = None) -> None:
        """Wait until it is time to try again.

        Args:
            error: what the attempt failed with.
            seconds: without a given deadline, how long after the first failure it is worth trying.

        Raises:
            AccreteError: `error`, when the next attempt would come too late.
        """
        self._count += 1
        if self._deadline is None:
            self._deadline = Deadline(self._caller.seconds(seconds))
        pause_s = self._caller.retry.pause_s(error, self._count, self._caller.generator)
        if pause_s is None or pause_s >= self._deadline.left_s():
            error.attempts = self._count
            raise error
        await self._caller.transport.sleep(pause_s)
