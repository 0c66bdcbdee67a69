"""Watching the learner, across broken connections."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator

from .._errors import AccreteError, Unavailable
from .._events import Event
from .._transport.caller import Backoff, Caller
from .._transport.methods import WATCH
from ..v1 import teaching_pb2
from .decoding import event

_SETTLED_S = 10.0  # longer than any attempt to connect takes: a call that lived for so long had been connected


async def watch(caller: Caller, *, after: str, timeout: float | None) -> AsyncGenerator[Event, None]:
    """Yield events without an end; after a broken connection, go on behind the last one seen.

    Raises:
        AccreteError: an outage lasts longer than `timeout` seconds.
    """
    backoff = Backoff(caller)
    caller.seconds(timeout)
    while True:
        started = time.monotonic()
        failure: AccreteError = Unavailable("the server ended the stream")
        try:
            call = await caller.transport.subscribe(WATCH, teaching_pb2.WatchRequest(after=after))
            try:
                while (message := await call.read()) is not None:
                    after = message.id
                    backoff.reset()
                    yield event(message)
            finally:
                call.cancel()
        except AccreteError as error:
            failure = error
        if time.monotonic() - started > _SETTLED_S:
            backoff.reset()
        await backoff.pause(failure, timeout)
