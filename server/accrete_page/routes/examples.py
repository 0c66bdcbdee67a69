"""The examples of a class, and their images."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, cast, get_args

from starlette.requests import Request
from starlette.responses import Response

from accrete import AsyncClient, NotFound, StoredExample
from accrete_page.errors import invalid
from accrete_page.requests import fields, number, picture, route, text

_Kind = Literal["exemplars", "holdout", "pending", "review"]
_KINDS = get_args(_Kind)


async def examples(request: Request, client: AsyncClient) -> Any:
    """Return a page of a class's examples, without their images."""
    query = request.query_params
    page = await client.examples(
        text(request, "label"),
        kind=_kind(request),
        page_size=number(request, "size", 50),
        page_token=query.get("page", ""),
    )
    return {
        "examples": [told(one) for one in page.examples],
        "next_page_token": page.next_page_token,
        "total": page.total,
    }


async def image(request: Request, client: AsyncClient) -> Response:
    """Return the image of an example."""
    label, identifier, side = text(request, "label"), text(request, "id"), number(request, "side", 256)
    page = await client.examples(label, kind=_kind(request), ids=[identifier], max_side=side)
    found = [one for one in page.examples if one.image]
    if not found:
        raise NotFound("this image is not there any more")
    return picture(found[0].image)


async def delete(request: Request, client: AsyncClient) -> Any:
    """Remove examples."""
    (ids,) = await fields(request, ids=list[str])
    return await client.delete_examples(ids)


def told(example: StoredExample) -> dict[str, Any]:
    """Return an example without its image."""
    return {
        field.name: getattr(example, field.name)
        for field in dataclasses.fields(example)
        if field.name not in ("image", "media_type")
    }


def _kind(request: Request) -> _Kind | None:
    given = request.query_params.get("kind", "").lower()
    if given and given not in _KINDS:
        raise invalid(f"kind = {given[:50]!r}: {', '.join(_KINDS)} are allowed")
    return cast(_Kind, given) if given else None


ROUTES = [
    route("examples", examples),
    route("examples/image", image),
    route("examples/delete", delete, "POST"),
]
