"""What happens, told to every tab that is open: one stream of the server's for all tabs of a connection.

A tab that does not read is cut after half a minute, or when its queue is full. What it has missed it gets when it comes
back with the id of the last event that it had.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

from accrete import AccreteError, AsyncClient, Event, InvalidInput, Unauthenticated
from accrete.cli.output import plain
from accrete_page.errors import Gone, Refused
from accrete_page.now import Now, ReadTraffic

_log = logging.getLogger(__name__)

KEPT = 1000
"""Events that are kept for tabs that come back."""
QUEUE = 2 * KEPT
"""Messages that a tab may be behind. They are one another's, so that a tab costs no more than their places."""
MOST_TABS = 100
"""Of one connection."""
LOOK_S = 1.0
"""Between two looks whether the server is there."""
NOW_EVERY = 2
"""Looks after which the state is read."""
LINGER_S = 5.0
"""Seconds for which the stream goes on after the last tab has gone, for one that is loaded again."""
QUIET_S = 15.0
"""Seconds of silence after which a tab is sent a comment, which finds those that are gone."""
STUCK_S = 30.0
"""Seconds that a tab may take to take a message."""
AGAIN_S = 2.0
"""Before the stream is opened again after a refusal."""


class Tab:
    """One open stream of a browser."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[bytes] = asyncio.Queue(QUEUE)
        self._ended = asyncio.Event()

    def put(self, message: bytes) -> None:
        """Send a message, or end the tab if it is too far behind."""
        try:
            self._queue.put_nowait(message)
        except asyncio.QueueFull:
            self.end()

    def end(self) -> None:
        """End it; messages that it has not taken are dropped."""
        self._ended.set()

    async def ended(self) -> None:
        """Return when it has ended."""
        await self._ended.wait()

    async def messages(self) -> AsyncIterator[bytes]:
        """Yield messages, and a comment now and then where there are none."""
        while True:
            try:
                async with asyncio.timeout(QUIET_S):
                    message = await self._queue.get()
            except TimeoutError:
                message = b":\n\n"
            yield message


class Live:
    """The stream of one connection."""

    def __init__(
        self,
        client: AsyncClient,
        is_there: Callable[[], Awaitable[bool]],
        call: Callable[[Awaitable[dict[str, Any]]], Awaitable[dict[str, Any]]],
        traffic: ReadTraffic,
    ) -> None:
        """Listen to nothing yet.

        Args:
            client: of the connection.
            is_there: returns whether the server answers.
            call: awaits calls to it, and raises Gone soon where it is not there.
            traffic: reads its figures.
        """
        self._client = client
        self._is_there = is_there
        self._call = call
        self._now = Now(client, traffic)
        self._tabs: set[Tab] = set()
        self._events: deque[tuple[str, bytes]] = deque(maxlen=KEPT)
        self._position = ""
        self._reachable = True
        self._state = b""
        self._tasks: list[asyncio.Task[None]] = []
        self._closing: asyncio.TimerHandle | None = None

    def attach(self, after: str = "") -> Tab:
        """Return a new tab, which gets what is kept behind the event `after`, the state, and what happens from now on.

        Raises:
            Refused: too many are open.
        """
        if len(self._tabs) >= MOST_TABS:
            raise Refused(429, "RESOURCE_EXHAUSTED", f"{MOST_TABS} tabs are open; close some")
        tab = Tab()
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None
        if not self._tasks:
            self._position = after
            self._tasks = [asyncio.ensure_future(_kept_up(work)) for work in (self._watch, self._look)]
        for message in self._missed(after):
            tab.put(message)
        tab.put(_message("server", {"reachable": self._reachable}))
        if self._state:
            tab.put(self._state)
        self._tabs.add(tab)
        return tab

    def detach(self, tab: Tab) -> None:
        """Forget a tab; with the last one the stream ends a little later."""
        self._tabs.discard(tab)
        if not self._tabs and self._closing is None:
            self._closing = asyncio.get_running_loop().call_later(LINGER_S, self._stop)

    def close(self) -> None:
        """End all tabs and the stream."""
        self._end_tabs()
        self._stop()

    def _end_tabs(self) -> None:
        for tab in self._tabs:
            tab.end()

    def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._tasks = []
        self._state = b""
        self._events.clear()  # what comes until the next tab is missing behind them
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None

    def _missed(self, after: str) -> list[bytes]:
        """Return the messages behind an event; none where it is not known, for the state that follows tells all."""
        known = [index for index, (identifier, _) in enumerate(self._events) if identifier == after]
        return [message for _, message in list(self._events)[known[0] + 1 :]] if known else []

    def _tell(self, message: bytes) -> None:
        for tab in self._tabs:
            tab.put(message)

    async def _watch(self) -> None:
        """Pass on what the server tells, for as long as there are tabs."""
        while True:
            try:
                async for event in self._client.watch(after=self._position):
                    self._happened(event)
            except InvalidInput:
                self._position = ""  # a tab's id was none of this server's
            except Unauthenticated:
                return  # who may not watch gets the state alone
            except AccreteError:
                pass
            await asyncio.sleep(AGAIN_S)

    def _happened(self, event: Event) -> None:
        self._position = event.id
        if event.kind:
            message = _message(event.kind, plain(event), event.id)
            self._events.append((event.id, message))
            self._tell(message)
        if event.kind != "progress":
            self._now.happened()

    async def _look(self) -> None:
        """Tell when the server goes and comes, and what it does while that changes."""
        looks = 0
        while True:
            if self.note(reachable=await self._is_there()):
                looks = 0
            if self._reachable and looks % NOW_EVERY == 0:
                try:
                    self._read(await self._call(self._now.read()))
                except Gone:
                    self.note(reachable=False)
                except AccreteError as error:
                    if error.code is grpc.StatusCode.UNAUTHENTICATED:
                        self._end_tabs()  # they ask again, and are told to sign in
            looks += 1
            await asyncio.sleep(LOOK_S)

    def note(self, *, reachable: bool) -> bool:
        """Note whether the server is there, tell it if that is news, and return whether it is."""
        if reachable == self._reachable:
            return False
        self._reachable = reachable
        self._tell(_message("server", {"reachable": reachable}))
        return True

    def _read(self, state: dict[str, Any]) -> None:
        message = _message("now", plain(state))
        if message != self._state:
            self._state = message
            self._tell(message)


async def _kept_up(work: Callable[[], Awaitable[None]]) -> None:
    """Do some work until it is done; a fault of ours does not leave tabs without it."""
    while True:
        try:
            return await work()
        except Exception:
            _log.exception("page.stream_failed")
            await asyncio.sleep(AGAIN_S)


def _message(kind: str, data: object, identifier: str = "") -> bytes:
    """Return a server-sent event (HTML Living Standard, 9.2)."""
    head = f"id: {identifier}\n" if identifier else ""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return f"{head}event: {kind}\ndata: {text}\n\n".encode(errors="replace")
