"""The page of a node: where its server is, and what is written down of where the page is."""

from __future__ import annotations

import json
import os
import ssl
from pathlib import Path
from typing import Any

from accrete import TlsConfig, Unavailable
from accrete_kit.addresses import is_loopback
from accrete_kit.atomic_file import write_json
from accrete_node.settings import Settings
from accrete_page.serving import PageSettings
from accrete_page.target import Target

FILE_NAME = "page.json"
_SERVER_FILE = "server.json"


def is_served(settings: Settings) -> bool:
    """Return whether a node serves a page: a server that lets in by certificate alone lets no page in."""
    return settings.page.enabled and not settings.access.client_ca


def page_settings(settings: Settings) -> PageSettings:
    """Return what the page's process is started with."""
    file = settings.data_dir / FILE_NAME
    encrypted = not is_loopback(settings.page.host) and bool(settings.access.certificate)
    return PageSettings(
        where=Server(settings).target,
        host=settings.page.host,
        port=settings.page.port,
        hosts=settings.page.hosts,
        certificate=settings.access.certificate if encrypted else "",
        private_key=settings.access.private_key if encrypted else "",
        started=lambda address: write_json(file, {"address": address, "pid": os.getpid()}),
        ended=lambda: file.unlink(missing_ok=True),
    )


class Server:
    """The server of the same node, as its settings and the file that it writes say where it is."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._file = settings.data_dir / _SERVER_FILE
        self._tls: TlsConfig | bool = False
        self._stamp = 0

    def target(self) -> Target:
        """Return where it is.

        Raises:
            Unavailable: it takes any free port and has not started yet, or its certificate cannot be read.
        """
        access = self._settings.access
        if access.certificate:
            try:
                stamp = os.stat(access.certificate).st_mtime_ns
                if stamp != self._stamp:
                    name = name_in(access.certificate, access.private_key)
                    self._tls = TlsConfig(root_certificates=access.certificate, server_name=name)
                    self._stamp = stamp
            except (OSError, ValueError) as error:
                raise Unavailable(f"the server's certificate cannot be read: {error}") from error
        return Target(address=f"{self._host()}:{self._port()}", tls=self._tls, stamp=self._stamp)

    def _host(self) -> str:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1", "[::]": "::1"}.get(
            self._settings.server.host, self._settings.server.host
        )
        return f"[{host}]" if ":" in host and not host.startswith(("[", "unix:")) else host

    def _port(self) -> int:
        if self._settings.server.port:
            return self._settings.server.port
        try:
            return int(json.loads(self._file.read_text("utf-8"))["address"].rpartition(":")[2])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Unavailable("the server has not started yet") from error


def name_in(certificate: str, private_key: str) -> str:
    """Return a name that a certificate is for, by having it shown once, within this process.

    Raises:
        OSError: the files cannot be read, or do not belong together.
        ValueError: it is for no name.
    """
    shows = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    shows.load_cert_chain(certificate, private_key)
    asks = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    asks.load_verify_locations(certificate)
    asks.check_hostname = False
    asks.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = shows.wrap_bio(there, back, server_side=True)
    client = asks.wrap_bio(back, there)
    for side in (client, server, client, server):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    found: Any = client.getpeercert() or {}
    names = [str(value) for _, value in found.get("subjectAltName", ())]
    if not names:
        raise ValueError(f"{Path(certificate).name} is for no name (subjectAltName)")
    return names[0].replace("*", "page", 1)
