"""The page `/metrics` that Prometheus reads: encrypted and guarded as gRPC is."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

Admit = Callable[[str], object]
"""Takes a request's Authorization header; raises for one that is not to be answered."""

Tls = Callable[[], ssl.SSLContext]
"""What encrypts a connection that comes now."""


class MetricsPage:
    """One HTTP server on a thread of its own."""

    def __init__(self, registry: CollectorRegistry, admit: Admit, tls: Tls | None) -> None:
        """Listens with `start`. `tls` None: not encrypted."""
        self._page: Any = make_wsgi_app(registry)
        self._admit = admit
        self._tls = tls
        self._running: tuple[WSGIServer, threading.Thread] | None = None

    def start(self, host: str, port: int) -> int:
        """Answers the port in use; `port` 0 takes any free one. Raises OSError when it is taken."""
        kind = _IPv6 if ":" in host else _Endpoint
        try:
            server = make_server(host, port, self._answer, kind, _Quiet)
        except OSError as problem:
            raise OSError(
                f"/metrics cannot listen on {host}:{port}: {problem.strerror}; change server.metrics_port"
            ) from problem
        server.tls = self._tls
        thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
        thread.start()
        self._running = server, thread
        return server.server_port

    def close(self) -> None:
        """Stops it. Harmless when it never started."""
        if self._running is not None:
            server, thread = self._running
            server.shutdown()
            server.server_close()
            thread.join()
            self._running = None

    def _answer(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        try:
            self._admit(environ.get("HTTP_AUTHORIZATION", ""))
        except Exception as problem:
            start("401 Unauthorized", [("Content-Type", "text/plain"), ("WWW-Authenticate", "Bearer")])
            return [f"{problem}\n".encode()]
        answer: Iterable[bytes] = self._page(environ, start)
        return answer


class _Endpoint(ThreadingMixIn, WSGIServer):
    """A thread a connection: one that hangs keeps no other from being answered."""

    daemon_threads = True
    tls: Tls | None = None

    def get_request(self) -> tuple[socket.socket, Any]:
        """The connection; its handshake comes with the first read, on the thread that it is given."""
        connection, address = super().get_request()
        if self.tls is not None:
            connection = self.tls().wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def handle_error(self, *_: object) -> None:
        """A caller that breaks off, or that does not trust our certificate, is no event."""


class _IPv6(_Endpoint):
    address_family = socket.AF_INET6


class _Quiet(WSGIRequestHandler):
    timeout = 10
    """Seconds that a silent caller may hold its thread."""

    def log_message(self, *_: object) -> None:
        """Scrapes are no events."""
