"""Teaching over one long call: batches go out while answers to earlier ones come in.

What has no answer yet is kept, at most `window` batches of it, and sent again over a new connection when the old one
breaks. A call lives for `timeout` seconds at most, so that a server that hangs is noticed; it is renewed, with nothing
on its way, at half of that.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from ._core import Attempts, Core
from ._errors import AccreteError, DeadlineExceeded, InvalidInput, LimitExceeded, Unavailable
from ._methods import STREAM_EXAMPLES
from ._prepared import Batch, Examples, merged, prepared_batches, read_results, request_of, to_send
from ._results import ExampleResult
from ._teaching import send
from ._transport import Duplex
from .v1 import teaching_pb2

_Call = Duplex[bytes, teaching_pb2.AddExamplesResponse]


async def stream_examples(
    core: Core, examples: Examples, *, batch_size: int, window: int, timeout: float | None
) -> AsyncGenerator[ExampleResult, None]:
    """The result of each example, in order, as the server acknowledges them."""
    batches = stream_batches(core, examples, batch_size=batch_size, window=window, timeout=timeout)
    async with aclosing(batches):
        async for results in batches:
            for result in results:
                yield result


async def stream_batches(
    core: Core, examples: Examples, *, batch_size: int, window: int, timeout: float | None
) -> AsyncGenerator[list[ExampleResult], None]:
    """The same, batch by batch."""
    if window < 1:
        raise InvalidInput(f"window {window}: 1 or more is allowed")
    sender = _Sender(core, prepared_batches(core, examples, batch_size), window, core.seconds(timeout))
    try:
        while not sender.finished:
            async with aclosing(sender.one_call()) as answers:
                async for results in answers:
                    yield results
    finally:
        sender.hang_up()


class _Sender:
    """Sends batches from a source over one call after another."""

    def __init__(self, core: Core, source: AsyncIterator[Batch], window: int, timeout_s: float) -> None:
        self.finished = False
        self._core = core
        self._source = source
        self._window = window
        self._timeout_s = timeout_s
        self._unanswered: deque[Batch] = deque()
        self._attempts = Attempts(core)
        self._drained = False
        self._call: _Call | None = None

    async def one_call(self) -> AsyncGenerator[list[ExampleResult], None]:
        """Results until the source has ended, the call is due for renewal, or it broke."""
        started = time.monotonic()
        renew_at = started + self._timeout_s / 2
        allowed, sent = 1, 0  # one batch alone first: whether this call works at all is best told by its answer
        try:
            call = self._call = await self._core.transport.duplex(STREAM_EXAMPLES, self._timeout_s)
            while True:
                while sent < allowed and await self._send(call, sent, more=time.monotonic() < renew_at):
                    sent += 1
                if not sent:
                    break
                started = time.monotonic()
                yield await self._answer(call)
                allowed, sent = self._window, sent - 1
            await call.done_writing()
            await call.read()
            self.finished = self._drained
        except LimitExceeded as problem:
            if problem.retry_after is None and self._unanswered:
                yield await self._alone()
            else:
                await self._attempts.pause(problem, self._timeout_s)
        except AccreteError as problem:
            await self._attempts.pause(self._judged(problem, time.monotonic() - started), self._timeout_s)
        finally:
            self.hang_up()

    def hang_up(self) -> None:
        """Ends the present call, if any."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    async def _send(self, call: _Call, position: int, *, more: bool) -> bool:
        """Sends the batch at this position of the unanswered ones; with `more`, the source's next one behind them.
        False: there is none."""
        if position == len(self._unanswered):
            batch = await anext(self._source, None) if more and not self._drained else None
            if batch is None:
                self._drained = self._drained or more
                return False
            self._unanswered.append(batch)
        sent = to_send(self._unanswered[position])
        if sent:
            await call.write(request_of(sent))
        return True

    async def _answer(self, call: _Call) -> list[ExampleResult]:
        """The results of the oldest batch without an answer."""
        batch = self._unanswered[0]
        sent = to_send(batch)
        answered: list[ExampleResult] = []
        if sent:
            response = await call.read()
            if response is None:
                raise Unavailable("the server ended the stream before it had answered all of it")
            answered = read_results(sent, response)
        self._unanswered.popleft()
        self._attempts.reset()
        return merged(batch, answered)

    async def _alone(self) -> list[ExampleResult]:
        """The results of the oldest batch, which is too much for one message, sent in parts by calls of their own."""
        self.hang_up()
        batch = self._unanswered[0]
        answered = await send(self._core, to_send(batch), self._timeout_s)
        self._unanswered.popleft()
        return merged(batch, answered)

    def _judged(self, problem: AccreteError, waited_s: float) -> AccreteError:
        """A call that reached its deadline because its examples came slowly is one to renew, not a failure."""
        if isinstance(problem, DeadlineExceeded) and waited_s < self._timeout_s / 2:
            return Unavailable(problem.details, code=problem.code)
        return problem
