"""What happens now: the state once, and the stream of events."""

from __future__ import annotations

import asyncio
import contextlib

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from accrete import AsyncClient
from accrete_page.live import STUCK_S, Live, Tab
from accrete_page.now import Now
from accrete_page.requests import ask, callers, route


async def now(request: Request, client: AsyncClient) -> dict[str, object]:
    """Return the state."""
    return await Now(client, callers(request).connection(request).traffic).read()


async def events(request: Request) -> Response:
    """Open the stream of events, behind the one that a browser says it had last."""
    await ask(request, lambda _, client: client.status())  # an answer with a status, before the stream begins
    live = callers(request).connection(request).live
    return _Stream(live, live.attach(request.headers.get("last-event-id", "")[:100]))


class _Stream(Response):
    """Server-sent events until the browser goes, does not read, or the page ends."""

    media_type = "text/event-stream"

    def __init__(self, live: Live, tab: Tab) -> None:
        super().__init__(headers={"X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._live = live
        self._tab = tab

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send."""
        ends = [asyncio.ensure_future(work) for work in (self._send(send), _disconnected(receive), self._tab.ended())]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._live.detach(self._tab)
            for task in ends:
                task.cancel()
            for ended in await asyncio.gather(*ends, return_exceptions=True):
                if isinstance(ended, Exception) and not isinstance(ended, OSError | TimeoutError):
                    raise ended
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(STUCK_S):
                await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": b"retry: 1000\n\n", "more_body": True})
        async for message in self._tab.messages():
            async with asyncio.timeout(STUCK_S):
                await send({"type": "http.response.body", "body": message, "more_body": True})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


ROUTES = [route("now", now), Route("/api/events", events, methods=["GET"])]
