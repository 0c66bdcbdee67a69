"""A real page before a real server."""

from __future__ import annotations

import json
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.cookiejar import CookieJar
from typing import Any

import pytest

from accrete import TlsConfig
from accrete_page.serving import Page, PageSettings
from accrete_page.target import Target
from tests.server.conftest import front as front
from tests.server.conftest import world as world

SAME = {"Sec-Fetch-Site": "same-origin"}
"""What a browser says of a request that a page makes of its own site."""


@dataclass(frozen=True)
class Answer:
    """What the page answered."""

    status: int
    headers: Any
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def code(self) -> str:
        """The word for programs of an error."""
        return str(self.json["error"]["code"])

    @property
    def message(self) -> str:
        return str(self.json["error"]["message"])


@dataclass
class Browser:
    """As much of a browser as the page notices: cookies, and the headers that no page of another site can set."""

    address: str
    tls: ssl.SSLContext | None = None
    jar: CookieJar = field(default_factory=CookieJar)

    def __post_init__(self) -> None:
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),
            urllib.request.HTTPSHandler(context=self.tls),
            urllib.request.HTTPCookieProcessor(self.jar),
        )

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, None, headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Answer:
        given = SAME | {"Content-Type": "application/json"}
        if isinstance(body, bytes):
            given["Content-Type"] = "image/png"
        else:
            body = json.dumps({} if body is None else body).encode()
        return self.ask("POST", path, body, given | headers)

    def delete(self, path: str) -> Answer:
        return self.ask("DELETE", path, None, SAME)

    def ask(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.address + path, body, named, method=method)
        try:
            with self._opener.open(request, timeout=300) as response:
                return Answer(response.status, response.headers, response.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.headers, error.read())


@pytest.fixture
def page() -> Iterator[Callable[..., Browser]]:
    """Starts pages of servers, each with a browser that looks at it."""
    running: list[tuple[Page, threading.Thread]] = []

    def start(
        server: str | Callable[[], Target],
        tls: bool | TlsConfig = False,
        browser_tls: ssl.SSLContext | None = None,
        **settings: Any,
    ) -> Browser:
        where = server if callable(server) else lambda: Target(address=server, tls=tls)
        made = Page(PageSettings(where=where, port=0, **{"host": "127.0.0.1"} | settings))
        thread = threading.Thread(target=made.run)
        thread.start()
        running.append((made, thread))
        return Browser(made.address, browser_tls)

    yield start
    for made, thread in running:
        made.end()
        thread.join()
