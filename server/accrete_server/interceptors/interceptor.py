"""The one interceptor: lets callers in, turns exceptions into gRPC statuses, counts and times every call of ours."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import grpc

from accrete_server.access import audit
from accrete_server.access.guard import Guard
from accrete_server.access.roles import is_audited
from accrete_server.access.tokens import Principal
from accrete_server.errors import InvalidInput, Status, status_of
from accrete_server.interceptors.threads import CallThreads, InPlace
from accrete_server.metrics.collectors import RequestMetrics
from accrete_server.predict.admission import Admission

PREFIXES = ("/accrete.v1.", "/inference.")
"""Paths of the services that are ours."""

if TYPE_CHECKING:  # generic in the stubs alone
    Handler = grpc.RpcMethodHandler[Any, Any]
    Interceptor = grpc.ServerInterceptor[Any, Any]
else:
    Interceptor = grpc.ServerInterceptor


class Edge(Interceptor):
    """Wraps each handler once: those of our services in all of it, others (health, reflection) in the guard alone."""

    def __init__(
        self, metrics: RequestMetrics, guard: Guard, threads: CallThreads, admissions: Mapping[str, Admission]
    ) -> None:
        """`admissions`: by path, of the calls of one request that are refused while their line is full."""
        self._metrics = metrics
        self._guard = guard
        self._under_way = 0
        self._lock = threading.Lock()
        self._wrapped: dict[str, Handler] = {}
        self._threads = threads
        self._admissions = admissions
        self._refusals = {path: self._refusal(path, admission) for path, admission in admissions.items()}

    @property
    def under_way(self) -> int:
        """Calls of ours that a handler is working on."""
        return self._under_way

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Handler | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """The wrapped handler of the call's method; None when there is no such method."""
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

    def _refusal(self, path: str, admission: Admission) -> Handler:
        """Refuses where gRPC hands the call over, without a thread and without its message: a third of what it costs to
        refuse in the handler, and under overload most calls are refused. It is made for a stream of requests because
        gRPC begins to read a single one by itself."""

        def refuse(request: Any, context: grpc.ServicerContext) -> Any:
            raise admission.refusal()

        handle = self._unary(refuse, path)

        def at_once(unread: Iterator[Any], context: grpc.ServicerContext) -> Any:
            return handle(None, context)

        at_once.experimental_thread_pool = InPlace()  # type: ignore[attr-defined]  # gRPC looks for it
        return grpc.stream_unary_rpc_method_handler(at_once)

    def _wrap(self, handler: Any, path: str) -> Handler:
        ours = path.startswith(PREFIXES)
        wrap = self._counted if ours else self._guarded
        if handler.request_streaming:
            make, inner = grpc.stream_stream_rpc_method_handler, wrap(handler.stream_stream, path, streamed=True)
        elif handler.response_streaming:
            make, inner = grpc.unary_stream_rpc_method_handler, wrap(handler.unary_stream, path, streamed=True)
        else:
            make, inner = grpc.unary_unary_rpc_method_handler, wrap(handler.unary_unary, path, streamed=False)
        decode = handler.request_deserializer
        return make(inner, _tolerant(decode) if ours else decode, handler.response_serializer)

    def _guarded(self, inner: Callable[..., Any], path: str, *, streamed: bool) -> Callable[..., Any]:
        """Others' services answer for themselves, once the caller is let in."""
        del streamed

        def handle(request: Any, context: grpc.ServicerContext) -> Any:
            try:
                self._guard.admit(path, context)
            except Exception as problem:
                _abort(status_of(problem, path), context)
            return inner(request, context)

        return handle

    def _counted(self, inner: Callable[..., Any], path: str, *, streamed: bool) -> Callable[..., Any]:
        return self._streamed(inner, path) if streamed else self._unary(inner, path)

    def _unary(self, inner: Callable[..., Any], path: str) -> Callable[..., Any]:
        method, audited = path.rsplit("/", 1)[1], self._guard.asks and is_audited(path)

        def handle(request: Any, context: grpc.ServicerContext) -> Any:
            started, code, principal = self._begin(), "OK", None
            try:
                principal = self._guard.caller_of(path, context)
                self._guard.check(principal, path)
                return inner(_message(request), context)
            except Exception as problem:
                status = status_of(problem, method)
                code = status.code.name
                _abort(status, context)
            finally:
                self._end(method, code, started)
                if audited:
                    audit.record(principal, method, code, request)

        return handle

    def _streamed(self, inner: Callable[..., Iterator[Any]], path: str) -> Callable[..., Iterator[Any]]:
        method, audited = path.rsplit("/", 1)[1], self._guard.asks and is_audited(path)

        def handle(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            # CANCELLED is what it is when the caller hangs up between two answers.
            started, code, principal = self._begin(), "CANCELLED", None
            try:
                principal = self._guard.caller_of(path, context)
                self._guard.check(principal, path)
                given = _messages(request) if isinstance(request, Iterator) else _message(request)
                yield from inner(_noted(given, principal, method) if audited else given, context)
                code = "OK"
            except Exception as problem:
                status = status_of(problem, method)
                code = status.code.name
                _abort(status, context)
            finally:
                self._end(method, code, started)
                if audited:
                    audit.record(principal, method, code, None)

        return handle

    def _begin(self) -> float:
        with self._lock:
            self._under_way += 1
        return time.perf_counter()

    def _end(self, method: str, code: str, started: float) -> None:
        self._metrics.observe(method, code, time.perf_counter() - started)
        with self._lock:
            self._under_way -= 1


class _Malformed:
    """Stands for bytes that are no message of the method. gRPC itself would answer INTERNAL, as for a fault of ours."""


def _tolerant(decode: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def decoded(data: bytes) -> Any:
        try:
            return decode(data)
        except Exception:  # protobuf's own error, and Unicode's
            return _Malformed

    return decoded


def _message(request: Any) -> Any:
    """Raises InvalidInput for what could not be decoded."""
    if request is _Malformed:
        raise InvalidInput("the request's bytes are not a message of this method")
    return request


def _messages(requests: Iterator[Any]) -> Iterator[Any]:
    return map(_message, requests)


def _noted(request: Any, principal: Principal, method: str) -> Any:
    """The request, or the requests of a stream as each is taken up, written down."""
    if not isinstance(request, Iterator):
        audit.record(principal, method, "BEGUN", request)
        return request
    return _each_noted(request, principal, method)


def _each_noted(requests: Iterator[Any], principal: Principal, method: str) -> Iterator[Any]:
    for request in requests:
        audit.record(principal, method, "RECEIVED", request)
        yield request


def _abort(status: Status, context: grpc.ServicerContext) -> NoReturn:
    if status.trailers:
        context.set_trailing_metadata(status.trailers)
    context.abort(status.code, status.details)
