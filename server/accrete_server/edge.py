"""The one interceptor around our services: turns exceptions into gRPC statuses, counts and times every call."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

import grpc

from accrete_server.errors import Status, status_of
from accrete_server.metrics import RequestMetrics

PREFIX = "/accrete.v1."

if TYPE_CHECKING:  # generic in the stubs alone
    Handler = grpc.RpcMethodHandler[Any, Any]
    Interceptor = grpc.ServerInterceptor[Any, Any]
else:
    Interceptor = grpc.ServerInterceptor


class Edge(Interceptor):
    """Wraps each handler of accrete.v1 once; health and reflection pass as they are."""

    def __init__(self, metrics: RequestMetrics) -> None:
        self._metrics = metrics
        self._under_way = 0
        self._lock = threading.Lock()
        self._wrapped: dict[str, Handler] = {}

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
        wrapped = self._wrapped.get(path)
        if wrapped is not None:
            return wrapped
        handler = continuation(handler_call_details)
        if handler is None or not path.startswith(PREFIX):
            return handler
        wrapped = self._wrapped[path] = self._wrap(handler, path.rsplit("/", 1)[1])
        return wrapped

    def _wrap(self, handler: Any, method: str) -> Handler:
        if handler.request_streaming:
            make, inner = grpc.stream_stream_rpc_method_handler, self._streamed(handler.stream_stream, method)
        elif handler.response_streaming:
            make, inner = grpc.unary_stream_rpc_method_handler, self._streamed(handler.unary_stream, method)
        else:
            make, inner = grpc.unary_unary_rpc_method_handler, self._unary(handler.unary_unary, method)
        return make(inner, handler.request_deserializer, handler.response_serializer)

    def _unary(self, inner: Callable[..., Any], method: str) -> Callable[..., Any]:
        def handle(request: Any, context: grpc.ServicerContext) -> Any:
            started = self._begin()
            try:
                response = inner(request, context)
            except Exception as problem:
                status = status_of(problem, method)
                self._end(method, status.code.name, started)
                _abort(status, context)
            self._end(method, "OK", started)
            return response

        return handle

    def _streamed(self, inner: Callable[..., Iterator[Any]], method: str) -> Callable[..., Iterator[Any]]:
        def handle(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            started, code = (
                self._begin(),
                "CANCELLED",
            )  # which is what it is when the caller hangs up between two answers
            try:
                yield from inner(request, context)
                code = "OK"
            except Exception as problem:
                status = status_of(problem, method)
                code = status.code.name
                _abort(status, context)
            finally:
                self._end(method, code, started)

        return handle

    def _begin(self) -> float:
        with self._lock:
            self._under_way += 1
        return time.perf_counter()

    def _end(self, method: str, code: str, started: float) -> None:
        self._metrics.observe(method, code, time.perf_counter() - started)
        with self._lock:
            self._under_way -= 1


def _abort(status: Status, context: grpc.ServicerContext) -> NoReturn:
    if status.trailers:
        context.set_trailing_metadata(status.trailers)
    context.abort(status.code, status.details)
