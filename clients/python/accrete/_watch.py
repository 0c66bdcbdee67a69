"""Watching the learner, across broken connections."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator

from ._core import Attempts, Core
from ._errors import AccreteError, Unavailable
from ._events import Event
from ._methods import WATCH
from ._wire import event
from .v1 import teaching_pb2

_SETTLED_S = 10.0  # longer than any attempt to connect takes: a call that lived for so long had been connected


async def watch(core: Core, *, after: str, timeout: float | None) -> AsyncGenerator[Event, None]:
    """Events, without an end; after a broken connection it goes on behind the last one seen. Raises when an outage
    lasts longer than `timeout` seconds."""
    attempts = Attempts(core)
    core.seconds(timeout)
    while True:
        started = time.monotonic()
        problem: AccreteError = Unavailable("the server ended the stream")
        try:
            call = await core.transport.subscribe(WATCH, teaching_pb2.WatchRequest(after=after))
            try:
                while (message := await call.read()) is not None:
                    after = message.id
                    attempts.reset()
                    yield event(message)
            finally:
                call.cancel()
        except AccreteError as broken:
            problem = broken
        if time.monotonic() - started > _SETTLED_S:
            attempts.reset()
        await attempts.pause(problem, timeout)
