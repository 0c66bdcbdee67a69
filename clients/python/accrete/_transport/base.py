"""What the client's logic needs from gRPC, so that it is written once for both of gRPC's interfaces.

All of it is `async`. The blocking transport never suspends, so that the same coroutines run to their end in one go on
the caller's thread (`_sync_transport.run`). The asyncio transport suspends as usual.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

from .methods import Method

Q = TypeVar("Q")
R = TypeVar("R")
T = TypeVar("T")
Q_contra = TypeVar("Q_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)

Work: TypeAlias = Callable[[], Coroutine[Any, Any, T]]
"""Begins something when it is called."""


class Stream(Protocol[R_co]):
    """A call whose responses come one by one."""

    async def read(self) -> R_co | None:
        """Return the next response; None at the end. Raises AccreteError."""

    def cancel(self) -> None:
        """End the call, unless it has ended."""


class Duplex(Stream[R_co], Protocol[Q_contra, R_co]):
    """A call with a stream in both directions."""

    async def write(self, request: Q_contra) -> None:
        """Send a request. An error of it is raised by the next `read`."""

    async def done_writing(self) -> None:
        """Tell the server that nothing more comes."""


class Transport(Protocol):
    """A connection to the server (or to several)."""

    async def unary(self, method: Method[Q, R], request: Q, timeout_s: float) -> R:
        """Send one request, and return its response. Raises AccreteError."""

    async def subscribe(self, method: Method[Q, R], request: Q) -> Stream[R]:
        """Send one request, which has many responses and no deadline."""

    async def duplex(self, method: Method[Q, R], timeout_s: float) -> Duplex[Q, R]:
        """Begin a call with many requests and responses, which ends at the deadline."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""

    async def offload(self, work: Callable[[], T]) -> T:
        """Do slow work where it delays nobody else, and return its result."""

    async def together(self, works: Sequence[Work[T]], at_once: int) -> list[T]:
        """Do several works, at most so many at a time, and return their results in order.

        Raises:
            AccreteError: one fails. Those that have not begun do not begin, and nobody waits for those that have.
        """

    async def close(self) -> None:
        """End all calls; a second time does nothing."""
