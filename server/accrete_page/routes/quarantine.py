"""What is held, why, and what becomes of it."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from accrete import AsyncClient
from accrete_page.requests import fields, route

_SELECTION: dict[str, Any] = {"label": str | None, "principal": str | None, "reason": str | None}


async def quarantine(request: Request, client: AsyncClient) -> Any:
    """Return labels in quarantine and examples set aside for review."""
    return {"held": await client.held(), "review": await client.review()}


async def approve(request: Request, client: AsyncClient) -> Any:
    """Let a new label be learned."""
    (label,) = await fields(request, label=str)
    return {"pending": await client.approve(label)}


async def retry(request: Request, client: AsyncClient) -> Any:
    """Let a label start steps again."""
    (label,) = await fields(request, label=str)
    return {"pending": await client.retry_held(label)}


async def drop(request: Request, client: AsyncClient) -> Any:
    """Remove a label's pending examples."""
    (label,) = await fields(request, label=str)
    return {"dropped": await client.drop_held(label)}


async def release_review(request: Request, client: AsyncClient) -> Any:
    """Let examples be learned after all."""
    label, principal, reason = await fields(request, **_SELECTION)
    return {"released": await client.release_review(label, principal=principal, reason=reason)}


async def drop_review(request: Request, client: AsyncClient) -> Any:
    """Remove examples that were set aside."""
    label, principal, reason = await fields(request, **_SELECTION)
    return {"dropped": await client.drop_review(label, principal=principal, reason=reason)}


ROUTES = [
    route("quarantine", quarantine),
    route("quarantine/approve", approve, "POST"),
    route("quarantine/retry", retry, "POST"),
    route("quarantine/drop", drop, "POST"),
    route("quarantine/review/release", release_review, "POST"),
    route("quarantine/review/drop", drop_review, "POST"),
]
