"""What happens now: the state once, and the stream of events."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from accrete import AsyncClient, Unavailable
from accrete_page import live
from accrete_page.live import Live, Tab
from accrete_page.now import Now
from accrete_page.requests import ask, callers, route


async def now(request: Request, client: AsyncClient) -> dict[str, object]:
    """Return the state."""
    return await Now(client, callers(request).connection(request).traffic).read()


async def events(request: Request) -> Response:
    """Open the stream of events, behind the one that a browser says it had last."""
    stream = callers(request).connection(request).live
    try:
        await ask(request, lambda _, client: client.status())  # who may not is told so before the stream begins
    except Unavailable:
        stream.note(reachable=False)
    after = request.headers.get("last-event-id") or request.query_params.get("after", "")
    return _Stream(stream, stream.attach(after[:100]), callers(request).still(request))


class _Stream(Response):
    """Server-sent events until the browser goes or does not read, its session ends, or the page does."""

    media_type = "text/event-stream"

    def __init__(self, stream: Live, tab: Tab, still: Callable[[], bool]) -> None:
        super().__init__(headers={"X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._stream = stream
        self._tab = tab
        self._still = still

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send."""
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            await _first(gone, self._send(send), self._tab.ended())
            self._stream.detach(self._tab)
            # A browser that does not read keeps this waiting, until the kernel has enough of it (see `serving`).
            await _first(gone, send({"type": "http.response.body", "body": b"", "more_body": False}))
        finally:
            self._stream.detach(self._tab)
            gone.cancel()

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": b"retry: 1000\n\n", "more_body": True})
        async for message in self._tab.messages():
            if not self._still():
                return
            try:
                async with asyncio.timeout(live.STUCK_S):
                    await send({"type": "http.response.body", "body": message, "more_body": True})
            except TimeoutError:
                return


async def _first(gone: asyncio.Future[None], *works: Awaitable[None]) -> None:
    """Return when one of them has ended, and end the others but `gone`."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.wait([gone, *tasks], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(ended, Exception) and not isinstance(ended, OSError):
                raise ended


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


ROUTES = [route("now", now), Route("/api/events", events, methods=["GET"])]
