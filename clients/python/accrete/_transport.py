"""What the client's logic needs from gRPC: written once against this, run over either of gRPC's two interfaces.

All of it is `async`. The blocking transport simply never suspends, so that the same coroutines run to their end in
one go on the caller's thread (`_blocking.run`); the asyncio transport suspends as usual.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from ._methods import Method

Q = TypeVar("Q")
R = TypeVar("R")
T = TypeVar("T")
Q_contra = TypeVar("Q_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)


class Stream(Protocol[R_co]):
    """A call whose answers come one by one."""

    async def read(self) -> R_co | None:
        """The next answer; None at the end. Raises AccreteError."""

    def cancel(self) -> None:
        """Ends the call; harmless when it has ended."""


class Duplex(Stream[R_co], Protocol[Q_contra, R_co]):
    """A call with a stream in both directions."""

    async def write(self, request: Q_contra) -> None:
        """Sends; what goes wrong with it is raised by the next `read`."""

    async def done_writing(self) -> None:
        """Tells the server that nothing more comes."""


class Transport(Protocol):
    """A connection to the server (or to several)."""

    async def unary(self, method: Method[Q, R], request: Q, timeout_s: float) -> R:
        """One request, one answer. Raises AccreteError."""

    async def subscribe(self, method: Method[Q, R], request: Q) -> Stream[R]:
        """One request, many answers, without a deadline."""

    async def duplex(self, method: Method[Q, R], timeout_s: float) -> Duplex[Q, R]:
        """Many requests, many answers, until the deadline."""

    async def sleep(self, seconds: float) -> None: ...

    async def offload(self, work: Callable[[], T]) -> T:
        """Runs slow work where it delays nobody else."""

    async def close(self) -> None:
        """Ends all calls. Harmless when closed."""
