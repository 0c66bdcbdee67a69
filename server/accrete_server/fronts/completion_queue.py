"""The front on a completion queue of its own, beside grpcio's: line threads take calls straight from gRPC's core.

A handler's call wakes up to six threads, which wait for each other. Here one thread receives calls, computes up to
eight together and answers them. Ports, TLS, other methods, health and reflection stay with grpcio's server. What is
used of grpcio is not public: `missing` says whether the running release has it, and `tests/server/test_queue_front.py`
whether it works.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from functools import partial
from typing import Any

import grpc

from accrete_server.access.tokens import ANYONE, Principal
from accrete_server.errors import InvalidInput
from accrete_server.fronts.front import Method, Methods
from accrete_server.interceptors.interceptor import MALFORMED, CallInterceptor, CallUnderWay
from accrete_server.predict.batcher import Request
from accrete_server.predict.line import Line
from accrete_server.predict.pipeline import Pipeline, Query

try:
    from grpc._cython import cygrpc  # type: ignore[attr-defined]  # the stubs leave out what is not public
except ImportError:  # `missing` says so
    cygrpc = None

_ASKED = 16
"""Calls of a method that gRPC's core may hand over before they are looked at. It keeps more itself."""

_EVENTS = 256  # looked at between two turns at most, so that under any load turns go on

_STEP_S = 0.010
"""Seconds between two looks at the queue while every line thread is at work: so long a refusal may take then."""

_WATCHED_AFTER_S = 0.025
"""Seconds after which a call that waits is told when its caller hangs up. To be told takes an event of gRPC's core,
which a call saves that is answered sooner; for who hangs up within that time an image is computed in vain at worst."""

_NO_FLAGS = 0
_AT_ONCE = 0.0  # a time in the past, until which to wait for an event

_USED = {
    "CompletionQueue": ("poll", "shutdown"),
    "Server": ("register_completion_queue", "request_registered_call"),
    "Call": ("peer", "start_server_batch"),
    "SendInitialMetadataOperation": (),
    "SendMessageOperation": (),
    "SendStatusFromServerOperation": (),
    "ReceiveMessageOperation": ("message",),
    "ReceiveCloseOnServerOperation": ("cancelled",),
    "CompletionType": ("queue_timeout", "queue_shutdown"),
    "StatusCode": ("ok", "unimplemented"),
    "auth_context": (),
}
"""What is used of grpcio's core in Python, and of each class there."""

_log = logging.getLogger(__name__)


def missing(server: grpc.Server, paths: Iterable[str]) -> str:
    """Return what the running grpcio lacks for this front; empty: nothing.

    Args:
        server: a server that has its services and was not started.
        paths: the methods that calls are to come of.
    """
    if cygrpc is None:
        return "grpc._cython.cygrpc"
    for name, members in _USED.items():
        used = getattr(cygrpc, name, None)
        for part, found in ((name, used), *((f"{name}.{member}", getattr(used, member, None)) for member in members)):
            if found is None:
                return f"cygrpc.{part}"
    state = getattr(server, "_state", None)
    if not isinstance(getattr(state, "server", None), cygrpc.Server):
        return "grpc.Server._state.server"
    handlers = getattr(state, "registered_method_handlers", None)
    if not isinstance(handlers, dict) or not set(paths) <= set(handlers):
        return "grpc.Server._state.registered_method_handlers"
    return ""


class QueueFront:
    """Takes calls from the core of a grpcio server, on the threads that compute them.

    One line thread at a time waits for events; with a turn in hand it leaves the queue to the next. While all are at
    work, a stand-in looks at the queue now and then, so that calls are refused, and leave the line, all the same.
    """

    def __init__(
        self,
        server: grpc.Server,
        methods: Methods,
        interceptor: CallInterceptor,
        line: Line,
        pipeline: Pipeline,
        threads: Executor,
    ) -> None:
        """Take some methods away from a server that was not started.

        Args:
            server: it has the services, and nothing is `missing`.
            methods: what to bring calls of.
            interceptor: what every call passes.
            line: where calls wait.
            pipeline: what calls are for.
            threads: where a call waits that is not to stand in line yet.
        """
        state: Any = server._state  # type: ignore[attr-defined]
        self._core = state.server
        self._queue = cygrpc.CompletionQueue()
        self._core.register_completion_queue(self._queue)
        for path in methods:
            del state.registered_method_handlers[path]
        self._methods = methods
        self.interceptor = interceptor
        self.line = line
        self.pipeline = pipeline
        self.threads = threads
        self.coming = 0
        """Calls whose message is on its way. Changes while the queue is held."""
        self.later = set[_QueueCall]()
        """Calls that another thread will line up. Nothing tells of it who looks at the queue."""
        self.unwatched = deque[_QueueCall]()
        """Calls that came of late, in their order. Changes while the queue is held."""
        self.starting = threading.Lock()
        """Held to start operations of a call: gRPC's core ends the process where its queue has been shut down."""
        self.is_shut = False
        """Whether the queue has been shut down. Changes while `starting` is held."""
        self._held = threading.Lock()
        """Held by who looks at the queue."""
        self._busy = threading.Event()
        """Whether there may be nobody who looks at the queue."""
        self._turns = 0
        """Taken so far. Changes while the queue is held."""
        self._closed = False
        self._stand_in = threading.Thread(target=self._look, name="line-stand-in", daemon=True)

    def start(self) -> None:
        """Ask gRPC's core for calls. See `Front`."""
        for path, method in self._methods.items():
            came = partial(self._came, path, method)
            for _ in range(_ASKED):
                self._ask(path, came)
        self._stand_in.start()

    def take(self) -> list[Request]:
        """Wait for a turn, looking after whatever comes meanwhile. See `Front`."""
        turn: list[Request] = []
        with self._held:
            while not turn and not self._closed:
                self._handle_events(self._next_look())
                self._watch()
                turn = self.line.take()
            self._turns += 1
        if not self._busy.is_set():
            self._busy.set()
        return turn

    def close(self) -> None:
        """End every wait for a turn. See `Front`."""
        with self.starting:
            self.is_shut = True
            self._queue.shutdown()
        self._busy.set()  # the stand-in takes what is left, if every line thread is at work
        if self._stand_in.ident is not None:
            self._stand_in.join()

    def _look(self) -> None:
        """Look at the queue in place of the line threads, while they are at work."""
        seen = 0
        while not self._closed:
            self._busy.wait()
            time.sleep(_STEP_S)
            if self._held.acquire(blocking=False):
                try:
                    self._handle_events(_AT_ONCE)
                    self._watch()
                    self.pipeline.give_up_late()
                finally:
                    self._held.release()
            elif self._turns == seen:  # nothing to do for a step, and somebody waits at the queue
                self._busy.clear()
                if not self._held.locked():  # who has left it since may not have seen that
                    self._busy.set()
            seen = self._turns

    def _watch(self) -> None:
        """Have the calls that have waited for a while told when their callers hang up. The queue must be held."""
        calls, since = self.unwatched, time.perf_counter() - _WATCHED_AFTER_S
        while calls and (calls[0].has_ended or calls[0].came < since):
            calls.popleft().watch()

    def _next_look(self) -> float | None:
        """Return until when to wait for events, None: for ever."""
        if self.line.waiting:
            return _AT_ONCE
        return time.time() + _STEP_S if self.later else None

    def _handle_events(self, until: float | None) -> None:
        """Handle what has happened; wait for it until a time, None: for ever. The queue must be held."""
        for _ in range(_EVENTS):
            event = self._queue.poll(until)
            if event.completion_type == cygrpc.CompletionType.queue_timeout:
                return
            if event.completion_type == cygrpc.CompletionType.queue_shutdown:
                self._closed = True
                return
            try:
                event.tag(event)
            except Exception:  # a fault of ours: the next call is another one
                _log.exception("front.event_failed")
            event = None  # it may be the last to know a call, which is to end now
            until = _AT_ONCE

    def _ask(self, path: str, came: Callable[[Any], None]) -> None:
        self._core.request_registered_call(self._queue, self._queue, path, came)

    def _came(self, path: str, method: Method, event: Any) -> None:
        """Ask for another call, and begin the one that has come."""
        with contextlib.suppress(ValueError):  # the server stops
            self._ask(path, event.tag)
        if event.success:
            _QueueCall(self, path, method, event).begin()


class _QueueCall:
    """A call on gRPC's core. Its events are handled by who holds the queue, and it is answered by whoever has it."""

    __slots__ = (
        "_call",
        "_data",
        "_deadline",
        "_front",
        "_metadata",
        "_method",
        "_on_end",
        "_path",
        "_under_way",
        "_wanted",
        "_watched",
        "came",
        "principal",
    )

    def __init__(self, front: QueueFront, path: str, method: Method, event: Any) -> None:
        self._front = front
        self._path = path
        self._method = method
        self._call = event.call
        self._metadata = event.invocation_metadata
        self._deadline: float = event.call_details.deadline
        self._data = b""
        self._wanted = True
        self._watched = False
        """Whether gRPC's core has been asked for the end of the call."""
        self._on_end: Callable[[], None] | None = None
        self._under_way: CallUnderWay | None = CallUnderWay(front.interceptor, path)
        """None once it was answered."""
        self.came = time.perf_counter()
        """When it came."""
        self.principal: Principal = ANYONE

    def begin(self) -> None:
        """Let the caller in and read the request. A call that there is no room for ends before its message is read."""
        front = self._front
        try:
            assert self._under_way is not None
            self.principal = self._under_way.let_in(self)
            if front.coming >= front.line.room:
                raise front.line.refusal()
        except Exception as error:
            self.fail(error)
            return
        front.coming += 1
        front.unwatched.append(self)
        self._start(self._received, cygrpc.ReceiveMessageOperation(_NO_FLAGS))

    @property
    def has_ended(self) -> bool:
        """Whether it was answered."""
        return self._under_way is None

    def watch(self) -> None:
        """Have the call told when its caller hangs up, or its deadline passes, unless it was answered."""
        self._start(self._closed, until_closed=True)

    def invocation_metadata(self) -> Iterable[Any]:
        """Return pairs of name and value."""
        metadata: Iterable[Any] = self._metadata
        return metadata

    def auth_context(self) -> Mapping[str, Any]:
        """Return what the connection's certificate says."""
        return {key.decode(): value for key, value in (cygrpc.auth_context(self._call) or {}).items()}

    def peer(self) -> str:
        """Return the caller's address, such as "ipv4:127.0.0.1:40000"."""
        address: bytes = self._call.peer()
        return address.decode()

    def is_active(self) -> bool:
        """Return whether the caller still waits."""
        return self._wanted

    def time_remaining(self) -> float | None:
        """Return the seconds until the caller's deadline, None without one."""
        return None if self._deadline == float("inf") else self._deadline - time.time()

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Run `callback` when the caller has gone; there is one at most. Return False when it has gone already."""
        self._on_end = callback
        return self._wanted

    def read(self) -> Query[Any, Any]:
        """Return what is asked. Raises InvalidInput."""
        try:
            request = self._method.message.FromString(self._data)
        except Exception as error:  # protobuf's own error, and Unicode's
            raise InvalidInput(MALFORMED) from error
        self._data = b""
        return self._method.query(request, self)

    def respond(self, response: Any) -> None:
        """Send the response."""
        data, trailers = response.SerializeToString(), self._front.interceptor.trailers()
        self._end("OK", trailers, cygrpc.StatusCode.ok, "", cygrpc.SendMessageOperation(data, _NO_FLAGS))

    def fail(self, error: Exception) -> None:
        """Send the status of an error."""
        if self._under_way is not None:
            status = self._under_way.status(error)
            self._end(status.code.name, status.trailers, status.code.value[0], status.details)

    def _end(self, code: str, trailers: tuple[Any, ...], number: Any, details: str, *others: Any) -> None:
        """Count the call, and send its end, with other operations, if there is somebody to send it to."""
        under_way, self._under_way, self._on_end = self._under_way, None, None
        if under_way is None:
            return
        under_way.code = code
        under_way.end()  # first: who has the answer finds the call counted
        if self._wanted:
            start = cygrpc.SendInitialMetadataOperation(None, _NO_FLAGS)
            end = cygrpc.SendStatusFromServerOperation(trailers or None, number, details.encode(), _NO_FLAGS)
            self._start(_sent, start, *others, end, until_closed=True)

    def _start(self, done: Callable[[Any], None], *operations: Any, until_closed: bool = False) -> None:
        """Start operations, unless the front was closed: the caller has been told by gRPC's core then.

        Args:
            done: called with the event of all of them.
            operations: what to do.
            until_closed: also wait for the end of the call, unless that waits already.
        """
        with self._front.starting:
            if until_closed and not self._watched:
                self._watched = True
                operations = (*operations, cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS))
            if operations and not self._front.is_shut:
                self._call.start_server_batch(operations, done)

    def _closed(self, event: Any) -> None:
        """Note that the caller has hung up, or that its deadline has passed, unless the call was answered."""
        if event.batch_operations[0].cancelled():
            self._wanted = False
            if self._on_end is not None:
                self._on_end()

    def _received(self, event: Any) -> None:
        """Take the message, and have it answered."""
        front = self._front
        front.coming -= 1
        self._data = event.batch_operations[0].message()
        if self._data is None:
            self._lacks_message()
        elif front.interceptor.is_behind(self):
            front.later.add(self)
            front.threads.submit(self._enter_later)
        else:
            front.pipeline.enter(self)

    def _enter_later(self) -> None:
        """Line up once this server has what the caller was told by another one."""
        try:
            self._front.interceptor.catch_up(self)
            self._front.pipeline.enter(self)
        finally:
            self._front.later.discard(self)

    def _lacks_message(self) -> None:
        """Fail a call without a message as gRPC does, or count one whose message was too large and that has failed."""
        details = f'Method "{self._path}" requires exactly one request message.'
        self._end("UNIMPLEMENTED", (), cygrpc.StatusCode.unimplemented, details)


def _sent(event: Any) -> None:
    """Do nothing once an answer has left."""
