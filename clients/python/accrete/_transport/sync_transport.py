"""The transport for threads, over which a coroutine runs without an event loop."""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator
from typing import Any, Generic, TypeVar

import grpc

from .._config import Endpoint
from .._errors import Cancelled, from_rpc, from_unary
from .methods import Method

Q = TypeVar("Q")
R = TypeVar("R")
T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never suspends, and return its result."""
    try:
        work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    work.close()
    raise RuntimeError("a coroutine of the blocking client suspended")


def iterate(source: AsyncGenerator[T, None]) -> Generator[T, None, None]:
    """Yield the values of an asynchronous generator that never suspends."""
    try:
        while True:
            try:
                value = run(_next(source))
            except StopAsyncIteration:
                return
            yield value
    finally:
        run(_close(source))


def iterate_batches(batches: AsyncGenerator[list[T], None]) -> Iterator[T]:
    """Yield the values in the lists of such a generator, which costs less than one step of the generator per value."""
    with contextlib.closing(iterate(batches)) as lists:
        for values in lists:
            yield from values


async def _next(source: AsyncGenerator[T, None]) -> T:
    return await anext(source)


async def _close(source: AsyncGenerator[T, None]) -> None:
    await source.aclose()


class SyncTransport:
    """A gRPC channel for threads; safe to share among them."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._channel = endpoint.channel(grpc)
        self._metadata = endpoint.metadata
        self._unary: dict[str, Callable[..., Any]] = {}
        self._closed = False

    async def unary(self, method: Method[Q, R], request: Q, timeout_s: float) -> R:
        self._check_open()
        call = self._unary.get(method.path)
        if call is None:
            call = self._unary[method.path] = self._channel.unary_unary(method.path, method.encode, method.decode)
        try:
            response: R = call(request, timeout=timeout_s, metadata=self._metadata)
        except grpc.RpcError as error:
            raise from_unary(error, closed=self._closed) from error
        return response

    async def subscribe(self, method: Method[Q, R], request: Q) -> SyncStream[R]:
        self._check_open()
        start = self._channel.unary_stream(method.path, method.encode, method.decode)
        return SyncStream(start(request, metadata=self._metadata))

    async def duplex(self, method: Method[Q, R], timeout_s: float) -> SyncDuplex[Q, R]:
        self._check_open()
        start = self._channel.stream_stream(method.path, method.encode, method.decode)
        return SyncDuplex(lambda requests: start(requests, timeout=timeout_s, metadata=self._metadata))

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    async def offload(self, work: Callable[[], T]) -> T:
        return work()

    async def close(self) -> None:
        self._closed = True
        self._channel.close()

    def _check_open(self) -> None:
        if self._closed:
            raise Cancelled("the client is closed")


class SyncStream(Generic[R]):
    """A call under way."""

    def __init__(self, call: Any) -> None:
        self._call = call

    async def read(self) -> R | None:
        try:
            response: R | None = next(self._call, None)
        except grpc.RpcError as error:
            raise from_rpc(error) from error
        return response

    def cancel(self) -> None:
        self._call.cancel()


class SyncDuplex(SyncStream[R], Generic[Q, R]):
    """A call with a stream in both directions: gRPC takes the requests from a queue, on a thread of its own."""

    def __init__(self, start: Callable[[Iterator[Q]], Any]) -> None:
        self._requests: queue.SimpleQueue[Q | None] = queue.SimpleQueue()
        super().__init__(start(iter(self._requests.get, None)))

    async def write(self, request: Q) -> None:
        self._requests.put(request)

    async def done_writing(self) -> None:
        self._requests.put(None)

    def cancel(self) -> None:
        super().cancel()
        self._requests.put(None)  # lets that thread end
