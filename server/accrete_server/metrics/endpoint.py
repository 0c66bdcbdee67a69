"""The page `/metrics` that Prometheus reads, encrypted and guarded as gRPC is."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from accrete_kit.ports import metrics_cannot_listen

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

Admit = Callable[[str], object]
"""Checks a request's Authorization header; raises for one that may not read the page."""

Tls = Callable[[], ssl.SSLContext]
"""Returns what encrypts a connection that comes now."""

_LOOK_S = 0.1
"""Between two looks for an end, which `close` waits for."""


class MetricsPage:
    """One HTTP server on a thread of its own."""

    def __init__(self, registry: CollectorRegistry, admit: Admit, tls: Tls | None) -> None:
        """Listen to nothing yet.

        Args:
            registry: the metrics to show.
            admit: who may read them.
            tls: encryption; None: the page is not encrypted.
        """
        self._page: Any = make_wsgi_app(registry)
        self._admit = admit
        self._tls = tls
        self._running: tuple[WSGIServer, threading.Thread] | None = None

    def start(self, host: str, port: int) -> int:
        """Listen, serve on a thread, and return the port. Port 0 takes any free one.

        Raises:
            OSError: the port is taken.
        """
        kind = _IPv6 if ":" in host else _Endpoint
        try:
            server = make_server(host, port, self._serve, kind, _QuietHandler)
        except OSError as error:
            raise metrics_cannot_listen(host, port, error, setting="server.metrics_port") from error
        server.tls = self._tls
        thread = threading.Thread(target=server.serve_forever, args=(_LOOK_S,), name="metrics", daemon=True)
        thread.start()
        self._running = server, thread
        return server.server_port

    def close(self) -> None:
        """Stop serving, if it was started."""
        if self._running is not None:
            server, thread = self._running
            server.shutdown()
            server.server_close()
            thread.join()
            self._running = None

    def _serve(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        try:
            self._admit(environ.get("HTTP_AUTHORIZATION", ""))
        except Exception as error:
            start("401 Unauthorized", [("Content-Type", "text/plain"), ("WWW-Authenticate", "Bearer")])
            return [f"{error}\n".encode()]
        page: Iterable[bytes] = self._page(environ, start)
        return page


class _Endpoint(ThreadingMixIn, WSGIServer):
    """One thread per connection, so that one that hangs holds up no other."""

    daemon_threads = True
    tls: Tls | None = None

    def get_request(self) -> tuple[socket.socket, Any]:
        """Return the next connection.

        Its handshake comes with the first read, on the connection's own thread.
        """
        connection, address = super().get_request()
        if self.tls is not None:
            connection = self.tls().wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def handle_error(self, *_: object) -> None:
        """Ignore a caller that breaks off, or that does not trust our certificate."""


class _IPv6(_Endpoint):
    address_family = socket.AF_INET6


class _QuietHandler(WSGIRequestHandler):
    timeout = 10
    """Seconds that a silent caller may hold its thread."""

    def log_message(self, *_: object) -> None:
        """Log no scrapes."""
