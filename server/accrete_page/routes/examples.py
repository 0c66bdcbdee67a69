"""The examples of a class, and their images."""

from __future__ import annotations

from typing import Any, Literal, cast, get_args

from starlette.requests import Request
from starlette.responses import Response

from accrete import AsyncClient, NotFound
from accrete_page.requests import choice, fields, number, picture, route, text, without_image

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
        "examples": [without_image(one) for one in page.examples],
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


def _kind(request: Request) -> _Kind | None:
    return cast(_Kind | None, choice(request, "kind", _KINDS))


ROUTES = [
    route("examples", examples),
    route("examples/image", image),
    route("examples/delete", delete, "POST"),
]
