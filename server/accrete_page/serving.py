"""The page's process: it listens, says where, and ends when it is told to."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import uvicorn

from accrete_kit.plain import plain
from accrete_page.application import application
from accrete_page.certificate import names_in
from accrete_page.connection import Connections
from accrete_page.target import Target

PORTS = 10
"""How many are tried from the one that is set."""
MOST_CONNECTIONS = 256
STUCK_MS = 30_000
"""Milliseconds after which the kernel ends a connection whose browser takes nothing."""
_ALL = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}
"""Addresses that stand for all of the machine, and what it reaches itself by."""
_END_S = 1
_CERTIFICATE_TICKS = 20
"""Of 0.1 s each, between two looks whether the certificate is another one."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PageSettings:
    """What the process is started with."""

    where: Callable[[], Target]
    """Returns the server. Raises Unavailable while it has not started yet."""
    host: str
    port: int
    hosts: tuple[str, ...] = ()
    certificate: str = ""
    """File (PEM) of the page's own certificate; empty: it is not encrypted."""
    private_key: str = ""
    started: Callable[[str], None] = lambda address: None
    """Told the page's address, such as "http://127.0.0.1:8080/", once it listens."""
    ended: Callable[[], None] = lambda: None
    """Called when it has ended."""


def serve(settings: PageSettings) -> None:
    """Serve until SIGTERM or SIGINT. To be called from the main thread.

    Raises:
        OSError: no port is free, or the certificate cannot be read.
    """
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # uvicorn raises again the signals that ended it
    try:
        with contextlib.suppress(KeyboardInterrupt):
            Page(settings).run()
    finally:
        signal.signal(signal.SIGTERM, before)


class Page:
    """One page, which listens from the start and answers while it is run."""

    def __init__(self, settings: PageSettings) -> None:
        """Listen.

        Raises:
            OSError: no port is free, or the certificate cannot be read.
        """
        logging.getLogger("uvicorn").setLevel(logging.WARNING)  # what it says else, we say
        self._settings = settings
        self._listener = listen(settings.host, settings.port)
        port = self._listener.getsockname()[1]
        scheme = "https" if settings.certificate else "http"
        names = _names(settings)
        self.address = f"{scheme}://{_shown(settings.host, names)}:{port}/"
        """Where it is, such as "http://127.0.0.1:8080/"."""
        connections = Connections(settings.where)
        hosts = (settings.host, *settings.hosts, *names)
        config = uvicorn.Config(
            application(connections, hosts=hosts, cookie=_cookie(port, secure=scheme == "https")),
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            proxy_headers=False,
            ws="none",
            limit_concurrency=MOST_CONNECTIONS,
            timeout_graceful_shutdown=_END_S,
            ssl_certfile=settings.certificate or None,
            ssl_keyfile=settings.private_key or None,
        )
        try:
            config.load()
        except OSError as error:
            self._listener.close()
            files = f"{settings.certificate}, {settings.private_key}"
            raise OSError(f"the page's certificate and key ({files}) cannot be used: {plain(error)}") from error
        self._server = _Server(config, connections)

    def run(self) -> None:
        """Answer until it is told to end."""
        self._settings.started(self.address)
        _log.info("page.started", extra={"address": self.address})
        try:
            with self._listener:
                self._server.run(sockets=[self._listener])
        finally:
            self._settings.ended()
        _log.info("page.stopped")

    def end(self) -> None:
        """Tell it to end, from any thread."""
        self._server.should_exit = True


class _Server(uvicorn.Server):
    """Takes up a certificate that is replaced, and ends the open streams before it waits for what is under way."""

    def __init__(self, config: uvicorn.Config, connections: Connections) -> None:
        super().__init__(config)
        self._connections = connections
        self._certificate_stamp = self._stamp()

    async def on_tick(self, counter: int) -> bool:
        """Look after what is to be looked after, ten times a second, and return whether it is to end."""
        if counter % _CERTIFICATE_TICKS == 0 and (stamp := self._stamp()) != self._certificate_stamp:
            assert self.config.ssl is not None
            try:
                self.config.ssl.load_cert_chain(str(self.config.ssl_certfile), str(self.config.ssl_keyfile))
            except OSError as error:  # in the middle of a replacement, most likely
                _log.warning("certificate.not_read", extra={"reason": str(error)})
            else:
                self._certificate_stamp = stamp
                _log.info("certificate.read")
        return await super().on_tick(counter)

    def _stamp(self) -> tuple[int, ...]:
        """Return when the files of the certificate were written; nothing where there are none."""
        files = [file for file in (self.config.ssl_certfile, self.config.ssl_keyfile) if file]
        try:
            return tuple(os.stat(file).st_mtime_ns for file in files)
        except OSError:
            return self._certificate_stamp

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End in order."""
        await self._connections.close()
        await super().shutdown(sockets)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on a port, or on the next free one; on any for port 0.

    Raises:
        OSError: none can be listened on.
    """
    tried = range(port, min(port + PORTS, 65_536)) if port else (0,)
    for one in tried:
        try:
            return _bound(host, one)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or one == tried[-1]:
                raise OSError(
                    f"the page cannot listen on {host}:{port}: {error.strerror or error}; change page.port or page.host"
                ) from error
    raise AssertionError("unreachable")


def _bound(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STUCK_MS)
        listener.bind(address)
        listener.listen(MOST_CONNECTIONS)
    except OSError:
        listener.close()
        raise
    return listener


def _names(settings: PageSettings) -> list[str]:
    """Return the names that the page's certificate is for: nobody else has one for them."""
    if not settings.certificate:
        return []
    try:
        return names_in(settings.certificate, settings.private_key)
    except (OSError, ValueError):
        return []  # what is wrong with it is told where it is used


def _shown(host: str, names: Sequence[str]) -> str:
    """Return what a browser may ask for: for all addresses of the machine a name of the certificate, or its own."""
    if host in _ALL:
        return next((name for name in names if "*" not in name), _ALL[host])
    return f"[{host}]" if ":" in host else host


def _cookie(port: int, *, secure: bool) -> str:
    """Return a name of its own, for browsers share cookies among all ports of a host, and so among tunnels."""
    own = hashlib.sha256(f"{socket.gethostname()} {os.getcwd()} {port}".encode()).hexdigest()[:8]
    return f"{'__Host-' if secure else ''}accrete-{own}"
