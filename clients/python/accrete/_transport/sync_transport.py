"""The transport for threads, over which a coroutine runs without an event loop."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextvars import copy_context
from functools import partial
from typing import Any, Generic, TypeVar

import grpc

from .._config import Endpoint
from .._errors import AccreteError, Cancelled, from_rpc, from_unary
from ..v1 import operation_pb2 as op
from .base import Work
from .methods import LIST_SERVERS, Method
from .spreading import Lane, Spread, Target, one_round

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


def _begun(work: Work[T]) -> T:
    return run(work())


async def _next(source: AsyncGenerator[T, None]) -> T:
    return await anext(source)


async def _close(source: AsyncGenerator[T, None]) -> None:
    await source.aclose()


class SyncTransport:
    """gRPC channels for threads; safe to share among them."""

    def __init__(self, endpoint: Endpoint, *, spread: bool = False) -> None:
        """Connect with the first call.

        Args:
            endpoint: where to.
            spread: whether to spread calls over the servers that the one there tells of.
        """
        self._spread = Spread(endpoint, grpc, wanted=spread)
        self._closed = False
        self._stopping = threading.Event()

    async def unary(self, method: Method[Q, R], request: Q, timeout_s: float) -> R:
        spread = self._spread
        lane, target = self._take(method)
        try:
            asked = spread.required()
            call = lane.unary(method)
            try:
                if not spread.wanted:
                    response: R = call(request, timeout=timeout_s, metadata=spread.metadata(target))
                    return response
                response, ended = call.with_call(request, timeout=timeout_s, metadata=spread.metadata(target))
            except (grpc.RpcError, ValueError) as error:
                raise self._failed(target, lane, error) from error
            if spread.answer(target, method.path, asked, ended.trailing_metadata()):
                self._look_after()
            return response
        finally:
            spread.give_back(target)

    async def subscribe(self, method: Method[Q, R], request: Q) -> SyncStream[R]:
        lane, target = self._take(method)
        start = lane.channel.unary_stream(method.path, method.encode, method.decode)
        stream: SyncStream[R] = self._streamed(
            SyncStream, target, lane, lambda: start(request, metadata=self._spread.metadata(target))
        )
        return stream

    async def duplex(self, method: Method[Q, R], timeout_s: float) -> SyncDuplex[Q, R]:
        lane, target = self._take(method)
        start = lane.channel.stream_stream(method.path, method.encode, method.decode)

        def begin(requests: Iterator[Q]) -> Any:
            return start(requests, timeout=timeout_s, metadata=self._spread.metadata(target))

        duplex: SyncDuplex[Q, R] = self._streamed(SyncDuplex, target, lane, begin)
        return duplex

    async def ask(self, targets: Sequence[Target], timeout_s: float) -> list[op.ListServersResponse | AccreteError]:
        request, calls = op.ListServersRequest(), []
        if self._closed:
            return [Cancelled("the client is closed") for _ in targets]
        for target in targets:
            lane = self._spread.lane(target)
            try:
                metadata = self._spread.metadata(target)
                calls.append(lane.unary(LIST_SERVERS).future(request, timeout=timeout_s, metadata=metadata))
            except ValueError:  # closed meanwhile
                calls.append(None)
        return [_outcome(call) for call in calls]

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    async def offload(self, work: Callable[[], T]) -> T:
        return work()

    async def together(self, works: Sequence[Work[T]], at_once: int) -> list[T]:
        pool = ThreadPoolExecutor(max(1, min(at_once, len(works))), thread_name_prefix="accrete-calls")
        try:
            doing = [pool.submit(copy_context().run, partial(_begun, work)) for work in works]
            wait(doing, return_when=FIRST_EXCEPTION)
            failed = [one for one in doing if one.done() and one.exception() is not None]
            return [one.result() for one in failed or doing]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    async def close(self) -> None:
        self._closed = True
        self._stopping.set()
        for lane in self._spread.lanes():
            lane.channel.close()

    async def close_lane(self, lane: Lane) -> None:
        lane.channel.close()

    def _take(self, method: Method[Any, Any]) -> tuple[Lane, Target]:
        if self._closed:
            raise Cancelled("the client is closed")
        target = self._spread.take(method.path)
        return self._spread.lane(target), target

    def _streamed(self, kind: Any, target: Target, lane: Lane, start: Any) -> Any:
        try:
            return kind(start, partial(self._failed, target, lane), partial(self._spread.give_back, target))
        except ValueError as error:
            self._spread.give_back(target)
            raise self._failed(target, lane, error) from error

    def _failed(self, target: Target, lane: Lane, error: grpc.RpcError | ValueError) -> AccreteError:
        """Return the error of a failed call; gRPC raises ValueError for one on a channel that is closed."""
        if not isinstance(error, grpc.RpcError):
            if not (lane.closed or self._closed):
                raise error
            return self._spread.fail(target, lane, Cancelled("the client was closed during the call"), None)
        kind = from_unary(error, closed=self._closed or lane.closed)
        trailers: Any = error.trailing_metadata()
        return self._spread.fail(target, lane, kind, trailers)

    def _look_after(self) -> None:
        """Look after the members on a thread, until this is closed or nobody has it any more."""
        thread = threading.Thread(
            target=_look_after, args=(weakref.ref(self), self._stopping), name="accrete-members", daemon=True
        )
        thread.start()


def _look_after(reference: weakref.ref[SyncTransport], stopping: threading.Event) -> None:
    while (transport := reference()) is not None and not stopping.is_set():
        pause_s = run(one_round(transport._spread, transport))
        del transport
        stopping.wait(pause_s)


def _outcome(call: Any) -> op.ListServersResponse | AccreteError:
    if call is None:
        return Cancelled("the channel is closed")
    try:
        response: op.ListServersResponse = call.result()
    except grpc.RpcError as error:
        return from_rpc(error)
    except grpc.FutureCancelledError:
        return Cancelled("the channel is closed")
    return response


class SyncStream(Generic[R]):
    """A call under way."""

    def __init__(
        self, start: Callable[[], Any], failed: Callable[[grpc.RpcError], AccreteError], ended: Callable[[], None]
    ) -> None:
        """Begin the call.

        Args:
            start: begins it.
            failed: returns the error to raise.
            ended: called once, when the call is cancelled, which it always is in the end.
        """
        self._call = start()
        self._failed = failed
        self._ended: Callable[[], None] | None = ended

    async def read(self) -> R | None:
        try:
            response: R | None = next(self._call, None)
        except grpc.RpcError as error:
            raise self._failed(error) from error
        return response

    def cancel(self) -> None:
        self._call.cancel()
        ended, self._ended = self._ended, None
        if ended is not None:
            ended()


class SyncDuplex(SyncStream[R], Generic[Q, R]):
    """A call with a stream in both directions: gRPC takes the requests from a queue, on a thread of its own."""

    def __init__(
        self,
        start: Callable[[Iterator[Q]], Any],
        failed: Callable[[grpc.RpcError], AccreteError],
        ended: Callable[[], None],
    ) -> None:
        self._requests: queue.SimpleQueue[Q | None] = queue.SimpleQueue()
        super().__init__(lambda: start(iter(self._requests.get, None)), failed, ended)

    async def write(self, request: Q) -> None:
        self._requests.put(request)

    async def done_writing(self) -> None:
        self._requests.put(None)

    def cancel(self) -> None:
        super().cancel()
        self._requests.put(None)  # lets that thread end
