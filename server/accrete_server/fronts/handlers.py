"""The front on grpcio's own handlers: each call waits on a thread of its own while a line thread works for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import grpc

from accrete_server.access.principal import CALLER
from accrete_server.predict.admission import seconds_left
from accrete_server.predict.batcher import Request
from accrete_server.predict.line import Line
from accrete_server.predict.pipeline import Pipeline, Query


class HandlersFront:
    """Takes calls from handlers. gRPC's public interface is all that it needs."""

    def __init__(self, line: Line, pipeline: Pipeline) -> None:
        self._line = line
        self._pipeline = pipeline
        self._changed = threading.Condition()
        self._closed = False

    def start(self) -> None:
        """Do nothing: handlers bring calls by themselves."""

    def answer(self, read: Callable[[], Query[Any, Any]], context: grpc.ServicerContext) -> Any:
        """Return the response to a call, on the thread of its handler.

        Raises:
            InvalidInput: the request cannot be used, or an image cannot.
            LimitExceeded: there are too many images, or too many calls wait.
            DeadlinePassed: the deadline passed before the call's turn.
            CallerGone: the caller hung up before the call's turn.
            NoModel: there is no version yet, or every class was forgotten.
            ServerError: what `Query.check_view` raises.
        """
        call = _HandlerCall(read, context)
        request = self._pipeline.enter(call)
        if request is not None:
            with self._changed:
                self._changed.notify()
            if not call.wait(seconds_left(request)):
                self._pipeline.give_up(request)  # unless it has its turn already: that takes little
                call.wait()
        return call.result()

    def take(self) -> list[Request]:
        """Wait for a turn. See `Front`."""
        while True:
            with self._changed:
                while not self._line.waiting and not self._closed:
                    self._changed.wait()
            turn = self._line.take()
            if turn or self._closed:
                return turn

    def close(self) -> None:
        """End every wait for a turn."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class _HandlerCall:
    """A call whose thread waits for its end."""

    def __init__(self, read: Callable[[], Query[Any, Any]], context: grpc.ServicerContext) -> None:
        self.principal = CALLER.get()
        self.read = read
        self.is_active = context.is_active
        self.time_remaining = context.time_remaining
        self.add_callback = context.add_callback
        self._outcome: Any = None
        self._ended = threading.Lock()  # the cheapest thing to wait for
        self._ended.acquire()

    def respond(self, response: Any) -> None:
        """Wake the thread up with a response."""
        self._end(response)

    def fail(self, error: Exception) -> None:
        """Wake the thread up with an error."""
        self._end(error)

    def wait(self, timeout: float = -1) -> bool:
        """Wait for the end, at most `timeout` seconds. Return whether it has come."""
        return self._ended.acquire(timeout=timeout)

    def result(self) -> Any:
        """Return the response, or raise the error."""
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome

    def _end(self, outcome: Any) -> None:
        if self._outcome is None:
            self._outcome = outcome
            self._ended.release()
