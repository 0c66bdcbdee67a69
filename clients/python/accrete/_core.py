"""A call with its deadline and its retries: what all of the client's logic goes through."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from ._config import Retry
from ._errors import AccreteError, InvalidInput
from ._methods import Method
from ._transport import Transport

Q = TypeVar("Q")
R = TypeVar("R")
T = TypeVar("T")

_LEAST_S = 0.001  # gRPC takes no deadline that has passed


class Deadline:
    """A moment, `seconds` from now."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left_s(self) -> float:
        return self._end - time.monotonic()


@dataclass(frozen=True, kw_only=True)
class Core:
    """What the calls of one client share."""

    transport: Transport
    timeout_s: float
    retry: Retry
    generator: random.Random = field(default_factory=random.Random)
    """Jitters the pauses; needs no seed, since no result depends on it."""

    def __post_init__(self) -> None:
        self.seconds(self.timeout_s)

    async def call(self, method: Method[Q, R], request: Q, timeout: float | None = None) -> R:
        """One call, made again while it may be (see `Retry`), all within `timeout` seconds. Raises AccreteError."""
        deadline = Deadline(self.seconds(timeout))
        attempts = Attempts(self, deadline)
        while True:
            try:
                return await self.transport.unary(method, request, max(deadline.left_s(), _LEAST_S))
            except AccreteError as problem:
                await attempts.pause(problem)

    def seconds(self, timeout: float | None) -> float:
        """The client's own timeout for None. Raises InvalidInput."""
        seconds = self.timeout_s if timeout is None else timeout
        if not 0 < seconds < float("inf"):
            raise InvalidInput(f"timeout {seconds}: a positive number of seconds is allowed")
        return seconds


class Attempts:
    """Counts failures in a row, and pauses between them for as long as the deadline and the policy allow."""

    def __init__(self, core: Core, deadline: Deadline | None = None) -> None:
        self._core = core
        self._given = deadline
        self.reset()

    def reset(self) -> None:
        """There was progress: without a given deadline, an outage that comes now has the full time again."""
        self._count = 0
        self._deadline = self._given

    async def pause(self, problem: AccreteError, seconds: float | None = None) -> None:
        """Waits until it is time to try again. Raises `problem` when that time does not come within the deadline
        (without one: within `seconds` of the first failure)."""
        self._count += 1
        if self._deadline is None:
            self._deadline = Deadline(self._core.seconds(seconds))
        pause_s = self._core.retry.pause_s(problem, self._count, self._core.generator)
        if pause_s is None or pause_s >= self._deadline.left_s():
            problem.attempts = self._count
            raise problem
        await self._core.transport.sleep(pause_s)


async def each(items: Iterable[T] | AsyncIterable[T]) -> AsyncGenerator[T, None]:
    """The items of either kind of iterable."""
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item


async def batches(
    items: AsyncIterable[T], *, count: int, limit: int, size: Callable[[T], int]
) -> AsyncGenerator[list[T], None]:
    """Lists of at most `count` items whose sizes sum to at most `limit`; an item larger than that comes alone."""
    batch: list[T] = []
    total = 0
    async for item in items:
        if batch and (len(batch) == count or total + size(item) > limit):
            yield batch
            batch, total = [], 0
        batch.append(item)
        total += size(item)
    if batch:
        yield batch
