"""The page of a node: where its server is, and what is written down of where the page is."""

from __future__ import annotations

import json
import os

from accrete import TlsConfig, Unavailable
from accrete_kit.addresses import is_loopback
from accrete_kit.atomic_file import write_json
from accrete_kit.plain import plain
from accrete_node.settings import Settings
from accrete_page.certificate import names_in
from accrete_page.serving import PageSettings
from accrete_page.target import Target

FILE_NAME = "page.json"
_SERVER_FILE = "server.json"


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
                    (name, *_) = names_in(access.certificate, access.private_key)
                    self._tls = TlsConfig(root_certificates=access.certificate, server_name=name.replace("*", "page"))
                    self._stamp = stamp
            except (OSError, ValueError) as error:
                raise Unavailable(f"the server's certificate cannot be read: {plain(error)}") from error
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
