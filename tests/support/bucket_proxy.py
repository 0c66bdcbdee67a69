"""A proxy in front of a bucket's server that refuses, cuts off, alters, hides and delays what a test says."""

from __future__ import annotations

import http.client
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_HOP = {"connection", "content-length", "keep-alive", "transfer-encoding"}


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What becomes of a request whose `METHOD /PATH?QUERY` has the pattern. Without more, its connection is cut."""

    pattern: str
    status: int = 0
    code: str = ""
    """What S3 names the reason of a status by."""
    body: Callable[[bytes], bytes] | None = None
    """What becomes of the answer's content, whose length is made to fit."""
    cut_after: int | None = None
    """Bytes of the content after which the connection is cut."""
    slow_s: float = 0.0
    """Seconds that each 100 kB of the content take, as over a slow network."""


class BucketProxy:
    """Passes requests on to a server, and says no to those that a fault is for."""

    def __init__(self, endpoint: str) -> None:
        """Listen. `endpoint` is the server's own address."""
        to = urlsplit(endpoint)
        assert to.hostname is not None
        self._to = (to.hostname, to.port or 80)
        self._faults: list[Fault] = []
        self.requests: list[str] = []
        """What was asked, as `METHOD /PATH?QUERY`."""
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @contextmanager
    def fault(self, pattern: str, **what: object) -> Iterator[None]:
        """Have a fault while the block runs."""
        fault = Fault(pattern=pattern, **what)  # type: ignore[arg-type]
        self._faults.append(fault)
        try:
            yield
        finally:
            self._faults.remove(fault)

    def close(self) -> None:
        """Listen no more."""
        self._http.shutdown()
        self._http.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _pass_on(self) -> None:
                asked = f"{self.command} {self.path}"
                content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                proxy.requests.append(asked)
                fault = next((one for one in proxy._faults if re.search(one.pattern, asked)), None)
                if fault is not None and fault.body is None and fault.cut_after is None and not fault.slow_s:
                    return self._refuse(fault)
                connection = http.client.HTTPConnection(*proxy._to, timeout=60)
                connection.request(self.command, self.path, content, dict(self.headers.items()))
                answer = connection.getresponse()
                body = answer.read()
                connection.close()
                if fault is not None and fault.body is not None:
                    body = fault.body(body)
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in _HOP:
                        self.send_header(name, value)
                length = answer.getheader("Content-Length") if self.command == "HEAD" else None
                self.send_header("Content-Length", length or str(len(body)))
                self.end_headers()
                if self.command != "HEAD" and fault is not None and fault.slow_s:
                    self._write_slowly(body, fault.slow_s)
                elif self.command != "HEAD":
                    self.wfile.write(body if fault is None else body[: fault.cut_after])
                self.close_connection = fault is not None and fault.cut_after is not None
                return None

            def _write_slowly(self, body: bytes, slow_s: float) -> None:
                with suppress(OSError):  # hung up on
                    for start in range(0, len(body), 10_000):
                        piece = body[start : start + 10_000]
                        time.sleep(slow_s * len(piece) / 100_000)
                        self.wfile.write(piece)

            def _refuse(self, fault: Fault) -> None:
                self.close_connection = True
                if not fault.status:
                    return
                text = f'<?xml version="1.0"?><Error><Code>{fault.code}</Code><Message>no</Message></Error>'.encode()
                self.send_response(fault.status)
                self.send_header("Content-Type", "application/xml")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass_on  # noqa: N815

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        return Handler
