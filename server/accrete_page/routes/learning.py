"""Control of the learner."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from accrete import AsyncClient
from accrete_page.requests import fields, route


async def pause(request: Request, client: AsyncClient) -> Any:
    """Start no step any more."""
    await client.pause()
    return {"paused": True}


async def resume(request: Request, client: AsyncClient) -> Any:
    """Let steps start again."""
    await client.resume()
    return {"paused": False}


async def trigger(request: Request, client: AsyncClient) -> Any:
    """Start a step, or a deep one."""
    (deep,) = await fields(request, deep=bool)
    return {"pending": await client.trigger_step(deep=deep)}


ROUTES = [
    route("learning/pause", pause, "POST"),
    route("learning/resume", resume, "POST"),
    route("learning/trigger", trigger, "POST"),
]
