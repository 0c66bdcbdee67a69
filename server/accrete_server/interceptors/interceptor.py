"""The one interceptor. It lets callers in, turns exceptions into gRPC statuses, and counts and times calls of ours."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import grpc

from accrete_server.access import audit
from accrete_server.access.guard import Caller, Guard
from accrete_server.access.principal import CALLER
from accrete_server.access.roles import is_audited
from accrete_server.access.tokens import ANYONE, Principal
from accrete_server.errors import InvalidInput, Status, status_of
from accrete_server.interceptors.threads import CallThreads, InPlace
from accrete_server.metrics.collectors import RequestMetrics
from accrete_server.predict.admission import Turns
from accrete_server.versions.awaiting import Awaiting, Seen

NODE_KEY = "accrete-node-bin"
"""Metadata by which a call insists on a node's name, in UTF-8."""
AFTER_KEY = "accrete-after"
"""Metadata of a call: the version and revision that its caller was told by another server."""
MALFORMED = "the request's bytes are not a message of this method"
PREFIXES = ("/accrete.v1.", "/inference.")
"""Paths of the services that are ours."""

if TYPE_CHECKING:  # generic in the stubs alone
    Handler = grpc.RpcMethodHandler[Any, Any]
    Interceptor = grpc.ServerInterceptor[Any, Any]
else:
    Interceptor = grpc.ServerInterceptor


class Awaited(Caller, Awaiting, Protocol):
    """A caller, and whether it still waits."""


class CallInterceptor(Interceptor):
    """Wraps each handler once: those of our services in all of it, others (health, reflection) in the guard alone."""

    def __init__(
        self,
        metrics: RequestMetrics,
        guard: Guard,
        threads: CallThreads,
        admissions: Mapping[str, Turns[Any]],
        node: str,
        trailers: Callable[[], tuple[tuple[str, str], ...]] = tuple,
        seen: Seen | None = None,
    ) -> None:
        """Wrap no handler yet.

        Args:
            metrics: What counts calls of ours.
            guard: Who may call what.
            threads: The threads that calls run on.
            admissions: By path, the admission of calls of one request, which are refused while its line is full.
            node: The node's name, which a call may insist on.
            trailers: Returns metadata of each answer to a call of one request, and of each failure.
            seen: What a call says that it has seen is waited for by it; None: nothing is waited for.
        """
        self._node = node
        self.trailers = trailers
        self._seen = seen
        self.metrics = metrics
        self.guard = guard
        self.under_way = 0
        """Calls of ours that a handler is working on. Changes under `lock`."""
        self.lock = threading.Lock()
        self._wrapped: dict[str, Handler] = {}
        self._threads = threads
        self._admissions = admissions
        self._refusals = {path: self._refusal(path, admission) for path, admission in admissions.items()}

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Handler | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Return the wrapped handler of the call's method; None when there is no such method."""
        path = handler_call_details.method
        admission = self._admissions.get(path)
        if admission is not None and admission.is_full(self._threads.starting):
            return self._refusals[path]
        wrapped = self._wrapped.get(path)
        if wrapped is not None:
            return wrapped
        handler = continuation(handler_call_details)
        if handler is None:
            return handler
        wrapped = self._wrapped[path] = self._wrap(handler, path)
        return wrapped

    def check_node(self, caller: Caller) -> None:
        """Check that the call is meant for this node, where it insists on one.

        Raises:
            InvalidInput: it is meant for another.
        """
        for name, value in caller.invocation_metadata():
            if name == NODE_KEY and value != self._node.encode():
                asked = value.decode(errors="replace") if isinstance(value, bytes) else value
                raise InvalidInput(f"node: this is {self._node!r}, and {asked!r} was asked for; nothing was done")

    def is_behind(self, caller: Caller) -> bool:
        """Return whether another server told the caller something that this one does not have yet."""
        seen = self._seen
        return seen is not None and any(
            name == AFTER_KEY and not seen.is_here(str(value)) for name, value in caller.invocation_metadata()
        )

    def catch_up(self, context: Awaited) -> None:
        """Wait until this server has what the caller was told by another one."""
        if self._seen is None:
            return
        for name, value in context.invocation_metadata():
            if name == AFTER_KEY:
                self._seen.wait(str(value), context)

    def _refusal(self, path: str, admission: Turns[Any]) -> Handler:
        """Return a handler that refuses where gRPC hands the call over, without a thread and without its message.

        That costs a third of refusing in the handler, and under overload most calls are refused. The handler is made
        for a stream of requests because gRPC begins to read a single one by itself.
        """

        def refuse(request: Any, context: grpc.ServicerContext) -> Any:
            raise admission.refusal()

        handle = self._unary(refuse, path)

        def at_once(unread: Iterator[Any], context: grpc.ServicerContext) -> Any:
            return handle(None, context)

        at_once.experimental_thread_pool = InPlace()  # type: ignore[attr-defined]  # gRPC looks for it
        return grpc.stream_unary_rpc_method_handler(at_once)

    def _wrap(self, handler: Any, path: str) -> Handler:
        ours = path.startswith(PREFIXES)
        unary, streamed = (self._unary, self._streamed) if ours else (self._guarded, self._guarded)
        if handler.request_streaming:
            make, inner = grpc.stream_stream_rpc_method_handler, streamed(handler.stream_stream, path)
        elif handler.response_streaming:
            make, inner = grpc.unary_stream_rpc_method_handler, streamed(handler.unary_stream, path)
        else:
            make, inner = grpc.unary_unary_rpc_method_handler, unary(handler.unary_unary, path)
        decode = handler.request_deserializer
        return make(inner, _tolerant(decode) if ours else decode, handler.response_serializer)

    def _guarded(self, inner: Callable[..., Any], path: str) -> Callable[..., Any]:
        """Wrap a handler of others' services, which report their own errors once the caller is let in."""

        def handle(request: Any, context: grpc.ServicerContext) -> Any:
            try:
                self.guard.admit(path, context)
                self.check_node(context)
            except Exception as error:
                _abort(status_of(error, path), context)
            return inner(request, context)

        return handle

    def _unary(self, inner: Callable[..., Any], path: str) -> Callable[..., Any]:
        audited = self.guard.asks and is_audited(path)

        def handle(request: Any, context: grpc.ServicerContext) -> Any:
            call = CallUnderWay(self, path)
            try:
                CALLER.set(call.let_in(context))
                self.catch_up(context)
                response = inner(_message(request), context)
                trailers = self.trailers()
                if trailers:
                    context.set_trailing_metadata(trailers)
                call.code = "OK"
                return response
            except Exception as error:
                _abort(call.status(error), context)
            finally:
                call.end()
                if audited:
                    audit.record(call.principal, call.method, call.code, request)

        return handle

    def _streamed(self, inner: Callable[..., Iterator[Any]], path: str) -> Callable[..., Iterator[Any]]:
        audited = self.guard.asks and is_audited(path)

        def handle(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            call = CallUnderWay(self, path)
            try:
                principal = call.let_in(context)
                CALLER.set(principal)
                given = map(_message, request) if isinstance(request, Iterator) else _message(request)
                yield from inner(_recorded(given, principal, call.method) if audited else given, context)
                call.code = "OK"
            except Exception as error:
                _abort(call.status(error), context)
            finally:
                call.end()
                if audited:
                    audit.record(call.principal, call.method, call.code, None)

        return handle


class CallUnderWay:
    """One call of ours: who calls, how it ends, and how long it takes."""

    def __init__(self, interceptor: CallInterceptor, path: str) -> None:
        """Begin: count the call as under way."""
        self.method = path.rsplit("/", 1)[1]
        self.code = "CANCELLED"
        """The status it ends with: this one, if nothing else is set, since the caller hung up between two responses."""
        self.principal: Principal | None = None
        """Who calls, once that is known."""
        self._interceptor = interceptor
        self._path = path
        with interceptor.lock:
            interceptor.under_way += 1
        self._started = time.perf_counter()

    def let_in(self, caller: Caller) -> Principal:
        """Return who calls.

        Raises:
            Unauthenticated: nobody knows who calls.
            PermissionDenied: the principal has not the role.
            InvalidInput: the call is meant for another node.
        """
        guard, principal = self._interceptor.guard, ANYONE
        if guard.asks:
            principal = self.principal = guard.caller_of(self._path, caller)
            guard.check(principal, self._path)
        self._interceptor.check_node(caller)
        return principal

    def status(self, error: Exception) -> Status:
        """Return the status that the call ends with because of an error, with the trailers of every answer."""
        status = status_of(error, self.method)
        self.code = status.code.name
        return replace(status, trailers=(*status.trailers, *self._interceptor.trailers()))

    def end(self) -> None:
        """Count the call and the time that it took."""
        interceptor = self._interceptor
        interceptor.metrics.observe(self.method, self.code, time.perf_counter() - self._started)
        with interceptor.lock:
            interceptor.under_way -= 1


class _Malformed:
    """What stands for bytes that are no message of the method. By itself gRPC would report INTERNAL, as for a bug."""


def _tolerant(decode: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def decoded(data: bytes) -> Any:
        try:
            return decode(data)
        except Exception:  # protobuf's own error, and Unicode's
            return _Malformed

    return decoded


def _message(request: Any) -> Any:
    """Return the request. Raises InvalidInput for one that could not be decoded."""
    if request is _Malformed:
        raise InvalidInput(MALFORMED)
    return request


def _recorded(request: Any, principal: Principal, method: str) -> Any:
    """Return the request, or the requests of a stream, each written into the audit log when it is taken up."""
    if not isinstance(request, Iterator):
        audit.record(principal, method, "BEGUN", request)
        return request
    return _each_recorded(request, principal, method)


def _each_recorded(requests: Iterator[Any], principal: Principal, method: str) -> Iterator[Any]:
    for request in requests:
        audit.record(principal, method, "RECEIVED", request)
        yield request


def _abort(status: Status, context: grpc.ServicerContext) -> NoReturn:
    if status.trailers:
        context.set_trailing_metadata(status.trailers)
    context.abort(status.code, status.details)
