"""Teaching over one long call, in which batches go out while results of earlier ones come in.

At most `window` batches have no result yet. They are kept, and sent again over a new connection when the old one
breaks. A call lives for `timeout` seconds at most, so that a server that hangs is noticed. It is renewed at half of
that, when nothing is on its way.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from .._errors import AccreteError, DeadlineExceeded, InvalidInput, LimitExceeded, Unavailable
from .._results import ExampleResult
from .._transport.base import Duplex
from .._transport.caller import Backoff, Caller
from .._transport.methods import STREAM_EXAMPLES
from ..v1 import teaching_pb2
from .example_batches import Batch, Examples, decode_results, example_batches, join_requests, merge_results, sendable
from .teaching import send

_Call = Duplex[bytes, teaching_pb2.AddExamplesResponse]


async def stream_examples(
    caller: Caller, examples: Examples, *, batch_size: int, window: int, timeout: float | None
) -> AsyncGenerator[ExampleResult, None]:
    """Yield the result of each example, in order, as the server acknowledges them."""
    batches = stream_batches(caller, examples, batch_size=batch_size, window=window, timeout=timeout)
    async with aclosing(batches):
        async for results in batches:
            for result in results:
                yield result


async def stream_batches(
    caller: Caller, examples: Examples, *, batch_size: int, window: int, timeout: float | None
) -> AsyncGenerator[list[ExampleResult], None]:
    """Yield the same, batch by batch."""
    if window < 1:
        raise InvalidInput(f"window {window}: 1 or more is allowed")
    sender = _Sender(caller, example_batches(caller, examples, batch_size), window, caller.seconds(timeout))
    try:
        while not sender.finished:
            async with aclosing(sender.one_call()) as acknowledged:
                async for results in acknowledged:
                    yield results
    finally:
        sender.hang_up()


class _Sender:
    """Sends batches from a source over one call after another."""

    def __init__(self, caller: Caller, source: AsyncIterator[Batch], window: int, timeout_s: float) -> None:
        self.finished = False
        self._caller = caller
        self._source = source
        self._window = window
        self._timeout_s = timeout_s
        self._unacknowledged: deque[Batch] = deque()
        self._backoff = Backoff(caller)
        self._drained = False
        self._call: _Call | None = None

    async def one_call(self) -> AsyncGenerator[list[ExampleResult], None]:
        """Yield results until the source has ended, the call is due for renewal, or it broke."""
        started = time.monotonic()
        renew_at = started + self._timeout_s / 2
        allowed, sent = 1, 0  # one batch alone first, whose result tells whether this call works at all
        try:
            call = self._call = await self._caller.transport.duplex(STREAM_EXAMPLES, self._timeout_s)
            while True:
                while sent < allowed and await self._send(call, sent, more=time.monotonic() < renew_at):
                    sent += 1
                if not sent:
                    break
                started = time.monotonic()
                yield await self._results(call)
                allowed, sent = self._window, sent - 1
            await call.done_writing()
            await call.read()
            self.finished = self._drained
        except LimitExceeded as error:
            if error.retry_after is None and self._unacknowledged:
                yield await self._alone()
            else:
                await self._backoff.pause(error, self._timeout_s)
        except AccreteError as error:
            await self._backoff.pause(self._judge(error, time.monotonic() - started), self._timeout_s)
        finally:
            self.hang_up()

    def hang_up(self) -> None:
        """End the present call, if any."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    async def _send(self, call: _Call, position: int, *, more: bool) -> bool:
        """Send the batch at this position of the unacknowledged ones, or with `more` the source's next one behind them.

        Returns:
            False when there is none.
        """
        if position == len(self._unacknowledged):
            batch = await anext(self._source, None) if more and not self._drained else None
            if batch is None:
                self._drained = self._drained or more
                return False
            self._unacknowledged.append(batch)
        sent = sendable(self._unacknowledged[position])
        if sent:
            await call.write(join_requests(sent))
        return True

    async def _results(self, call: _Call) -> list[ExampleResult]:
        """Return the results of the oldest batch that has none yet."""
        batch = self._unacknowledged[0]
        sent = sendable(batch)
        received: list[ExampleResult] = []
        if sent:
            response = await call.read()
            if response is None:
                raise Unavailable("the server ended the stream before it had acknowledged all of it")
            received = decode_results(sent, response)
        self._unacknowledged.popleft()
        self._backoff.reset()
        return merge_results(batch, received)

    async def _alone(self) -> list[ExampleResult]:
        """Send the oldest batch, which is too much for one message, in parts by calls of their own."""
        self.hang_up()
        batch = self._unacknowledged[0]
        received = await send(self._caller, sendable(batch), self._timeout_s)
        self._unacknowledged.popleft()
        return merge_results(batch, received)

    def _judge(self, error: AccreteError, waited_s: float) -> AccreteError:
        """Return the error to judge by: a call whose examples came too slowly for its deadline is one to renew."""
        if isinstance(error, DeadlineExceeded) and waited_s < self._timeout_s / 2:
            return Unavailable(error.details, code=error.code)
        return error
