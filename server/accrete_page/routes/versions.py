"""The versions, and which of them is live."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from accrete import AsyncClient
from accrete_page.now import version
from accrete_page.requests import fields, route


async def versions(request: Request, client: AsyncClient) -> Any:
    """Return all versions, newest first."""
    return [version(one) for one in await client.versions()]


async def activate(request: Request, client: AsyncClient) -> Any:
    """Make a version live and pin it."""
    (number,) = await fields(request, version=int)
    return await client.activate(number)


async def unpin(request: Request, client: AsyncClient) -> Any:
    """Let the newest go live."""
    return await client.unpin()


async def discard(request: Request, client: AsyncClient) -> Any:
    """Give up a damaged version."""
    (number,) = await fields(request, version=int)
    return await client.discard(number)


ROUTES = [
    route("versions", versions),
    route("versions/activate", activate, "POST"),
    route("versions/unpin", unpin, "POST"),
    route("versions/discard", discard, "POST"),
]
