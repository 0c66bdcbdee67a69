"""The server's certificate, read anew when its files change."""

from __future__ import annotations

import logging
import ssl
import threading
from pathlib import Path
from typing import Any

import grpc

from accrete_server.access.config import AccessConfig

_log = logging.getLogger(__name__)


class Certificates:
    """The files of an encrypted server; gRPC asks for news at each handshake."""

    def __init__(self, config: AccessConfig) -> None:
        """Raises ValueError naming the files when they cannot be used."""
        self._config = config
        self._lock = threading.Lock()
        self._files = [Path(name) for name in (config.certificate, config.private_key, config.client_ca) if name]
        self._stamps = self._look()
        self._untold: grpc.ServerCertificateConfiguration | None = None
        self._first = self._load()

    def credentials(self) -> grpc.ServerCredentials:
        """For `add_secure_port`."""
        news: Any = self._news  # its published type leaves out that None means "no news"
        return grpc.dynamic_ssl_server_credentials(
            self._first, news, require_client_authentication=bool(self._config.client_ca)
        )

    def context(self) -> ssl.SSLContext:
        """For a server of HTTP: by the files as they are now."""
        with self._lock:
            self._refresh()
            return self._context

    def _news(self) -> grpc.ServerCertificateConfiguration | None:
        """What is new since gRPC last asked; None for it to keep what it has."""
        with self._lock:
            self._refresh()
            news, self._untold = self._untold, None
            return news

    def _refresh(self) -> None:
        stamps = self._look()
        if stamps == self._stamps:
            return
        try:
            self._untold = self._load()
        except ValueError as problem:
            # In the middle of a replacement, most likely: the old pair serves until the new one is whole.
            _log.warning("certificate_not_read", extra={"reason": str(problem)})
            return
        self._stamps = stamps
        _log.info("certificate_read")

    def _load(self) -> grpc.ServerCertificateConfiguration:
        config = self._config
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(config.certificate, config.private_key)
            if config.client_ca:
                context.load_verify_locations(config.client_ca)
            pair = Path(config.private_key).read_bytes(), Path(config.certificate).read_bytes()
            roots = Path(config.client_ca).read_bytes() if config.client_ca else None
            if roots:
                context.verify_mode = ssl.CERT_REQUIRED
        except (OSError, ssl.SSLError) as problem:
            named = ", ".join(str(file) for file in self._files)
            raise ValueError(f"access.certificate and its kin ({named}) cannot be used: {problem}") from problem
        self._context = context
        return grpc.ssl_server_certificate_configuration([pair], root_certificates=roots)

    def _look(self) -> list[tuple[int, int] | None]:
        return [_stamp(file) for file in self._files]


def _stamp(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino
