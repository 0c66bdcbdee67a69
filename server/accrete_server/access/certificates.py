"""The server's certificate, read again when its files change."""

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
    """The certificate files of an encrypted server, of which gRPC asks at each handshake whether they have changed."""

    def __init__(self, config: AccessConfig) -> None:
        """Read the files.

        Raises:
            ValueError: they cannot be used; it names them.
        """
        self._config = config
        self._lock = threading.Lock()
        self._files = [Path(name) for name in (config.certificate, config.private_key, config.client_ca) if name]
        self._stamps = self._read_stamps()
        self._pending: grpc.ServerCertificateConfiguration | None = None
        self._first = self._load()

    def credentials(self) -> grpc.ServerCredentials:
        """Return the credentials for `add_secure_port`."""
        changed: Any = self._changed  # its published type leaves out that None means "no change"
        return grpc.dynamic_ssl_server_credentials(
            self._first, changed, require_client_authentication=bool(self._config.client_ca)
        )

    def context(self) -> ssl.SSLContext:
        """Return the TLS context of an HTTP server, from the files as they are now."""
        with self._lock:
            self._refresh()
            return self._context

    def _changed(self) -> grpc.ServerCertificateConfiguration | None:
        """Return the configuration, or None if gRPC has it already."""
        with self._lock:
            self._refresh()
            changed, self._pending = self._pending, None
            return changed

    def _refresh(self) -> None:
        stamps = self._read_stamps()
        if stamps == self._stamps:
            return
        try:
            self._pending = self._load()
        except ValueError as error:
            # In the middle of a replacement, most likely: the old pair serves until the new one is whole.
            _log.warning("certificate.not_read", extra={"reason": str(error)})
            return
        self._stamps = stamps
        _log.info("certificate.read")

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
        except (OSError, ssl.SSLError) as error:
            named = ", ".join(str(file) for file in self._files)
            raise ValueError(f"the files of access.certificate ({named}) cannot be used: {error}") from error
        self._context = context
        return grpc.ssl_server_certificate_configuration([pair], root_certificates=roots)

    def _read_stamps(self) -> list[tuple[int, int] | None]:
        return [_stamp(file) for file in self._files]


def _stamp(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino
