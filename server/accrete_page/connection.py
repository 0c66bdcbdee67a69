"""The page's connections to the server: one for each token, which all sessions with it share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from accrete import AccreteError, AsyncClient, Retry
from accrete_page.errors import Gone
from accrete_page.live import Live
from accrete_page.target import Target
from accrete_page.traffic import Figures, Traffic

T = TypeVar("T")

CALL_S = 30.0
"""Seconds that a call may take of a server that is there."""
DOUBT_S = 0.8
"""Seconds after which a call that has not been answered makes the page ask whether the server is there at all."""
PROBE_S = 0.8
"""Seconds that the server has to say so. Both together are less than the two seconds in which a person is told."""


class Connection:
    """A client with one token, and what it hears of the server."""

    def __init__(self, where: Callable[[], Target], token: str, traffic: Traffic) -> None:
        """Prepare it.

        Args:
            where: returns the server.
            token: of whoever asks; "" for none.
            traffic: reads the server's metrics.

        Raises:
            InvalidInput: the address or the token cannot be used.
            Unavailable: the server has not started yet.
        """
        self._where = where
        self.target = target = where()
        self.client = AsyncClient(target.address, timeout=CALL_S, retry=Retry(first_s=0.3), tls=target.tls, token=token)
        self._token = token
        self._traffic = traffic
        self.live = Live(self.client, self.is_there, self.call, self.traffic)

    async def call(self, work: Awaitable[T]) -> T:
        """Return the result of calls to the server.

        Raises:
            AccreteError: what they fail with; Gone, within two seconds, where the server is not there.
        """
        task = asyncio.ensure_future(work)
        try:
            while not (await asyncio.wait({task}, timeout=DOUBT_S))[0]:
                if not await self.is_there():
                    raise Gone(self.target.address)
            return task.result()
        finally:
            task.cancel()

    async def traffic(self, data_dir: str) -> Figures | None:
        """Return how the server fares with its callers, if that can be read here."""
        return await self._traffic.read(self.target, self._token, data_dir)

    async def is_there(self) -> bool:
        """Return whether the server answers that it serves."""
        try:
            async with asyncio.timeout(PROBE_S):  # the client takes longer, to find out why it is not
                await self.client.wait_ready(PROBE_S)
            return True
        except (AccreteError, TimeoutError):
            if self._is_elsewhere():
                self.live.close()  # the tabs ask again, and are led to the other address
            return False

    def _is_elsewhere(self) -> bool:
        try:
            return self._where() != self.target
        except AccreteError:
            return False

    async def close(self) -> None:
        """End all that goes on."""
        self.live.close()
        await self.client.close()


class Connections:
    """All connections. They are made when they are asked for and end when nobody needs them."""

    def __init__(self, where: Callable[[], Target]) -> None:
        """Make none yet.

        Args:
            where: returns the server, whose address changes where it takes any free port and starts again.
        """
        self._where = where
        self._traffic = Traffic()
        self._open: dict[str, Connection] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def get(self, token: str) -> Connection:
        """Return the connection of a token; "" for callers without one.

        Raises:
            InvalidInput: the token cannot be used.
            Unavailable: the server has not started yet.
        """
        found = self._open.get(token)
        if found is not None and found.target == self._where():
            return found
        made = Connection(self._where, token, self._traffic)
        if found is not None:
            self._close(found)
        self._open[token] = made
        return made

    def keep(self, tokens: Iterable[str]) -> None:
        """Close the connections whose token is none of these."""
        for token in self._open.keys() - {"", *tokens}:
            self.drop(token)

    def drop(self, token: str) -> None:
        """Close the connection of a token, if there is one."""
        if token in self._open:
            self._close(self._open.pop(token))

    async def close(self) -> None:
        """Close all."""
        for token in list(self._open):
            self.drop(token)
        await asyncio.gather(*self._closing)

    def _close(self, connection: Connection) -> None:
        task = asyncio.ensure_future(connection.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
