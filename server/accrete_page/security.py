"""What holds for every request: known hosts alone, no request of other sites, and headers that forbid all else."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from accrete_page.errors import answer

POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "connect-src 'self'",
        "font-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ]
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=(), payment=(), usb=()",
}
_READING = ("GET", "HEAD")


class Security:
    """Refuse what no page of ours asks, and put the headers on every answer."""

    def __init__(self, app: ASGIApp, hosts: Iterable[str] = ()) -> None:
        """Guard an application.

        Args:
            app: what answers.
            hosts: names under which it may be asked for, beside `localhost`; addresses in numbers always may.
        """
        self._app = app
        self._hosts = frozenset({"localhost", *(host.lower().rstrip(".") for host in hosts)})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        headers = Headers(scope=scope)
        refusal = self._refusal(scope["method"], scope["path"], headers)
        if refusal is not None:
            await answer(403, "PERMISSION_DENIED", refusal)(scope, receive, send_with_headers)
            return
        await self._app(scope, receive, send_with_headers)

    def _refusal(self, method: str, path: str, headers: Headers) -> str | None:
        """Return why a request is refused; None for one that may pass."""
        host = headers.get("host", "")
        if not self._is_ours(host):
            return f"the host {host[:100]!r} is none of this page's; the setting page.hosts lists its names"
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        if method in _READING:
            foreign = path.startswith("/api/") and site not in (None, "same-origin", "none")
        else:
            foreign = site != "same-origin" if site is not None else origin is None or urlsplit(origin).netloc != host
        return "this was asked by another site than the page itself" if foreign else None

    def _is_ours(self, host: str) -> bool:
        """Return whether a Host header names this page.

        A site of somebody else can have its name lead to this machine (DNS rebinding), and is told by the name.
        """
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name.rstrip(".") in self._hosts
        return True
