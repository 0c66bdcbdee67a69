"""The transport for asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

import grpc
import grpc.aio

from .._config import Endpoint
from .._errors import AccreteError, Cancelled, InternalError, Unavailable, from_rpc, from_unary
from ..v1 import operation_pb2 as op
from .base import Work
from .methods import LIST_SERVERS, Method
from .spreading import Lane, Spread, Target, one_round

Q = TypeVar("Q")
R = TypeVar("R")
T = TypeVar("T")

_END: Any = vars(grpc.aio)["EOF"]  # the published types leave it out


def _closed() -> AccreteError:
    return Cancelled("the client was closed during the call")


@contextlib.contextmanager
def _translated(
    translate: Callable[[grpc.RpcError], AccreteError], closed: Callable[[], AccreteError] = _closed
) -> Iterator[None]:
    """Raise gRPC's errors as those of this package.

    gRPC also raises CancelledError when the channel is closed under a call, and UsageError for one on a closed channel.
    A task that nobody cancelled must not end silently by it.
    """
    try:
        yield
    except grpc.RpcError as error:
        raise translate(error) from error
    except grpc.aio.UsageError:
        raise closed() from None
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise closed() from None


class AsyncTransport:
    """gRPC channels of one event loop: the one that runs at the first call."""

    def __init__(self, endpoint: Endpoint, *, spread: bool = False) -> None:
        """Connect with the first call. See `SyncTransport`."""
        self._spread = Spread(endpoint, grpc.aio, wanted=spread)
        self._closed = False
        self._members: asyncio.Task[None] | None = None

    async def unary(self, method: Method[Q, R], request: Q, timeout_s: float) -> R:
        spread = self._spread
        lane, target = self._take(method)
        try:
            asked = spread.required()
            with _translated(partial(self._failed, target, lane), closed=lambda: self._cut(target, lane)):
                call = lane.unary(method)(request, timeout=timeout_s, metadata=spread.metadata(target))
                response: R = await call
                trailers = await call.trailing_metadata() if spread.wanted else None
            if spread.answer(target, method.path, asked, trailers):
                self._members = asyncio.get_running_loop().create_task(_look_after(weakref.ref(self)))
            return response
        finally:
            spread.give_back(target)

    async def subscribe(self, method: Method[Q, R], request: Q) -> AsyncStream[R]:
        lane, target = self._take(method)
        start = lane.channel.unary_stream(method.path, method.encode, method.decode)
        stream: AsyncStream[R] = self._streamed(
            AsyncStream, target, lane, lambda: start(request, metadata=self._spread.metadata(target))
        )
        return stream

    async def duplex(self, method: Method[Q, R], timeout_s: float) -> AsyncDuplex[Q, R]:
        lane, target = self._take(method)
        start: Any = lane.channel.stream_stream(method.path, method.encode, method.decode)
        duplex: AsyncDuplex[Q, R] = self._streamed(
            AsyncDuplex, target, lane, lambda: start(timeout=timeout_s, metadata=self._spread.metadata(target))
        )  # without an iterator: requests are written
        return duplex

    async def ask(self, targets: Sequence[Target], timeout_s: float) -> list[op.ListServersResponse | AccreteError]:
        return list(await asyncio.gather(*(self._ask(target, timeout_s) for target in targets)))

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def offload(self, work: Callable[[], T]) -> T:
        return await asyncio.to_thread(work)

    async def together(self, works: Sequence[Work[T]], at_once: int) -> list[T]:
        gate = asyncio.Semaphore(at_once)

        async def begun(work: Work[T]) -> T:
            async with gate:
                return await work()

        doing = [asyncio.ensure_future(begun(work)) for work in works]
        try:
            return list(await asyncio.gather(*doing))
        finally:
            for one in doing:
                one.cancel()

    async def close(self) -> None:
        self._closed = True
        if self._members is not None:
            self._members.cancel()
            await asyncio.wait([self._members])
        for lane in self._spread.lanes():
            await lane.channel.close(None)

    async def close_lane(self, lane: Lane) -> None:
        await lane.channel.close(None)

    async def _ask(self, target: Target, timeout_s: float) -> op.ListServersResponse | AccreteError:
        lane = self._spread.lane(target)
        try:
            with _translated(from_rpc):
                call = lane.unary(LIST_SERVERS)
                response: op.ListServersResponse = await call(
                    op.ListServersRequest(), timeout=timeout_s, metadata=self._spread.metadata(target)
                )
        except AccreteError as error:
            return error
        return response

    def _take(self, method: Method[Any, Any]) -> tuple[Lane, Target]:
        """Return who takes a call. Its channel is made now, when the loop runs that it is to belong to."""
        if self._closed:
            raise Cancelled("the client is closed")
        target = self._spread.take(method.path)
        return self._spread.lane(target), target

    def _streamed(self, kind: Any, target: Target, lane: Lane, start: Callable[[], Any]) -> Any:
        try:
            with _translated(partial(self._failed, target, lane), closed=lambda: self._cut(target, lane)):
                return kind(
                    start(),
                    partial(self._failed, target, lane),
                    partial(self._cut, target, lane),
                    partial(self._spread.give_back, target),
                )
        except AccreteError:
            self._spread.give_back(target)
            raise

    def _failed(self, target: Target, lane: Lane, error: grpc.RpcError) -> AccreteError:
        """Return the error of a failed call."""
        trailers: Any = error.trailing_metadata()
        return self._spread.fail(target, lane, from_unary(error, closed=self._closed or lane.closed), trailers)

    def _cut(self, target: Target, lane: Lane) -> AccreteError:
        """Return the error of a call whose channel was closed under it."""
        return self._spread.fail(target, lane, Cancelled("the client was closed during the call"), None)


async def _look_after(reference: weakref.ref[AsyncTransport]) -> None:
    """Look after the members until the transport is closed or nobody has it any more."""
    while (transport := reference()) is not None:
        pause_s = await one_round(transport._spread, transport)
        del transport
        await asyncio.sleep(pause_s)


class AsyncStream(Generic[R]):
    """A call under way."""

    def __init__(
        self,
        call: Any,
        failed: Callable[[grpc.RpcError], AccreteError],
        cut: Callable[[], AccreteError],
        ended: Callable[[], None],
    ) -> None:
        """Take a call that has begun.

        Args:
            call: gRPC's.
            failed: returns the error to raise.
            cut: the same for a call whose channel was closed.
            ended: called once, when the call is cancelled, which it always is in the end.
        """
        self._call = call
        self._failed = failed
        self._cut_off = cut
        self._ended: Callable[[], None] | None = ended

    async def read(self) -> R | None:
        with _translated(self._failed, self._cut_off):
            response = await self._call.read()
        return None if response is _END else response

    def cancel(self) -> None:
        self._call.cancel()
        ended, self._ended = self._ended, None
        if ended is not None:
            ended()


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
