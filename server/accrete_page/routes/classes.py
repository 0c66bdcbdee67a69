"""The classes and what is kept of them."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from accrete import AsyncClient
from accrete_page.requests import fields, route


async def classes(request: Request, client: AsyncClient) -> Any:
    """Return all classes."""
    return await client.classes()


async def forget(request: Request, client: AsyncClient) -> Any:
    """Remove a class."""
    (label,) = await fields(request, label=str)
    return await client.forget_class(label)


ROUTES = [
    route("classes", classes),
    route("classes/forget", forget, "POST"),
]
