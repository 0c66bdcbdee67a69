"""The transport for asyncio."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import grpc
import grpc.aio

from .._config import Endpoint
from .._errors import AccreteError, Cancelled, InternalError, Unavailable, from_rpc, from_unary
from .methods import Method

Q = TypeVar("Q")
R = TypeVar("R")
T = TypeVar("T")

_END: Any = vars(grpc.aio)["EOF"]  # the published types leave it out


@contextlib.contextmanager
def _translated(translate: Callable[[grpc.RpcError], AccreteError] = from_rpc) -> Iterator[None]:
    """Raise gRPC's errors as those of this package.

    gRPC also raises CancelledError when the channel is closed under a call. A task that nobody cancelled must not end
    silently by it.
    """
    try:
        yield
    except grpc.RpcError as error:
        raise translate(error) from error
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise Cancelled("the client was closed during the call") from None


class AsyncTransport:
    """A gRPC channel of one event loop: the one that runs at the first call."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._opened: grpc.aio.Channel | None = None
        self._closed = False

    async def unary(self, method: Method[Q, R], request: Q, timeout_s: float) -> R:
        call = self._channel().unary_unary(method.path, method.encode, method.decode)
        with _translated(lambda error: from_unary(error, closed=self._closed)):
            response: R = await call(request, timeout=timeout_s, metadata=self._endpoint.metadata)
        return response

    async def subscribe(self, method: Method[Q, R], request: Q) -> AsyncStream[R]:
        start = self._channel().unary_stream(method.path, method.encode, method.decode)
        return AsyncStream(start(request, metadata=self._endpoint.metadata))

    async def duplex(self, method: Method[Q, R], timeout_s: float) -> AsyncDuplex[Q, R]:
        start: Any = self._channel().stream_stream(method.path, method.encode, method.decode)
        return AsyncDuplex(
            start(timeout=timeout_s, metadata=self._endpoint.metadata)
        )  # without an iterator: requests are written

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def offload(self, work: Callable[[], T]) -> T:
        return await asyncio.to_thread(work)

    async def close(self) -> None:
        self._closed = True
        if self._opened is not None:
            await self._opened.close(None)

    def _channel(self) -> grpc.aio.Channel:
        """Return the channel, made at the first call, when the loop runs that it is to belong to."""
        if self._closed:
            raise Cancelled("the client is closed")
        if self._opened is None:
            self._opened = self._endpoint.channel(grpc.aio)
        return self._opened


class AsyncStream(Generic[R]):
    """A call under way."""

    def __init__(self, call: Any) -> None:
        self._call = call

    async def read(self) -> R | None:
        with _translated():
            response = await self._call.read()
        return None if response is _END else response

    def cancel(self) -> None:
        self._call.cancel()


class AsyncDuplex(AsyncStream[R], Generic[Q, R]):
    """A call with a stream in both directions."""

    _cut = False

    async def read(self) -> R | None:
        try:
            return await super().read()
        except InternalError as error:
            if self._cut:
                raise Unavailable("the server ended the stream while it was written to") from error
            raise

    async def write(self, request: Q) -> None:
        """Send a request.

        gRPC replaces the status of a call that has ended under a write by INTERNAL, so that what the server said is
        lost; the next `read` raises Unavailable instead.
        """
        try:
            await self._call.write(request)
        except grpc.RpcError:
            self._cut = True
        except asyncio.InvalidStateError:
            return  # the call has ended, and the next `read` raises its status

    async def done_writing(self) -> None:
        with contextlib.suppress(grpc.RpcError, asyncio.InvalidStateError):  # as above
            await self._call.done_writing()
