"""The versions, and which of them is live."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from accrete import AsyncClient
from accrete_page.now import version
from accrete_page.requests import fields, number, route


async def versions(request: Request, client: AsyncClient) -> Any:
    """Return all versions, newest first."""
    return [version(one) for one in await client.versions()]


async def evaluation(request: Request, client: AsyncClient) -> Any:
    """Return how a version judged, by class and by mistake."""
    return await client.evaluation(number(request, "version", 0) or None)


async def compare(request: Request, client: AsyncClient) -> Any:
    """Return two versions beside each other."""
    return await client.compare(number(request, "base"), number(request, "other"))


async def activate(request: Request, client: AsyncClient) -> Any:
    """Make a version live and pin it."""
    (chosen,) = await fields(request, version=int)
    return await client.activate(chosen)


async def unpin(request: Request, client: AsyncClient) -> Any:
    """Let the newest go live."""
    return await client.unpin()


async def discard(request: Request, client: AsyncClient) -> Any:
    """Give up a damaged version."""
    (chosen,) = await fields(request, version=int)
    return await client.discard(chosen)


ROUTES = [
    route("versions", versions),
    route("versions/evaluation", evaluation),
    route("versions/compare", compare),
    route("versions/activate", activate, "POST"),
    route("versions/unpin", unpin, "POST"),
    route("versions/discard", discard, "POST"),
]
