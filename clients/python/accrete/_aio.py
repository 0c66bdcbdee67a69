"""The transport for asyncio."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import grpc
import grpc.aio

from ._config import Endpoint
from ._errors import AccreteError, Cancelled, InternalError, Unavailable, from_rpc, from_unary
from ._methods import Method

Q = TypeVar("Q")
R = TypeVar("R")
T = TypeVar("T")

_END: Any = vars(grpc.aio)["EOF"]  # the published types leave it out


@contextlib.contextmanager
def _errors(translate: Callable[[grpc.RpcError], AccreteError] = from_rpc) -> Iterator[None]:
    """gRPC's errors as this package's. It also raises CancelledError when the channel is closed under a call; a task
    that nobody cancelled must not end silently by it."""
    try:
        yield
    except grpc.RpcError as problem:
        raise translate(problem) from problem
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise Cancelled("the client was closed during the call") from None


class AioTransport:
    """A gRPC channel of one event loop: the one that runs at the first call."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._opened: grpc.aio.Channel | None = None
        self._closed = False

    async def unary(self, method: Method[Q, R], request: Q, timeout_s: float) -> R:
        call = self._channel().unary_unary(method.path, method.encode, method.decode)
        with _errors(lambda problem: (from_rpc if self._closed else from_unary)(problem)):
            response: R = await call(request, timeout=timeout_s, metadata=self._endpoint.metadata)
        return response

    async def subscribe(self, method: Method[Q, R], request: Q) -> AioStream[R]:
        start = self._channel().unary_stream(method.path, method.encode, method.decode)
        return AioStream(start(request, metadata=self._endpoint.metadata))

    async def duplex(self, method: Method[Q, R], timeout_s: float) -> AioDuplex[Q, R]:
        start: Any = self._channel().stream_stream(method.path, method.encode, method.decode)
        return AioDuplex(
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
        """Made at the first call, when the loop runs that it is to belong to."""
        if self._closed:
            raise Cancelled("the client is closed")
        if self._opened is None:
            to = self._endpoint
            self._opened = (
                grpc.aio.secure_channel(to.target, to.credentials, to.options)
                if to.credentials
                else grpc.aio.insecure_channel(to.target, to.options)
            )
        return self._opened


class AioStream(Generic[R]):
    """A call that is being answered."""

    def __init__(self, call: Any) -> None:
        self._call = call

    async def read(self) -> R | None:
        with _errors():
            response = await self._call.read()
        return None if response is _END else response

    def cancel(self) -> None:
        self._call.cancel()


class AioDuplex(AioStream[R], Generic[Q, R]):
    """A call with a stream in both directions."""

    _cut = False

    async def read(self) -> R | None:
        try:
            return await super().read()
        except InternalError as problem:
            if self._cut:
                raise Unavailable("the server ended the stream while it was written to") from problem
            raise

    async def write(self, request: Q) -> None:
        """gRPC replaces the status of a call that has ended under a write by INTERNAL: what the server said is lost."""
        try:
            await self._call.write(request)
        except grpc.RpcError:
            self._cut = True
        except asyncio.InvalidStateError:
            return  # the call has ended, and the next `read` raises its status

    async def done_writing(self) -> None:
        with contextlib.suppress(grpc.RpcError, asyncio.InvalidStateError):  # as above
            await self._call.done_writing()
