"""What the model was unsure of, and what people say that it is."""

from __future__ import annotations

from typing import Any, Literal, cast, get_args

from starlette.requests import Request
from starlette.responses import Response

from accrete import AsyncClient
from accrete_page.errors import invalid
from accrete_page.requests import choice, fields, number, picture, route, text, without_image

_Order = Literal["doubt", "newest", "look"]
_State = Literal["open", "labelled", "skipped"]


async def inbox(request: Request, client: AsyncClient) -> Any:
    """Return a page of the inbox, without the images."""
    page = await client.inbox(
        order=cast(_Order, choice(request, "order", get_args(_Order)) or "doubt"),
        state=cast(_State, choice(request, "state", get_args(_State)) or "open"),
        page_size=number(request, "size", 50),
        page_token=request.query_params.get("page", ""),
    )
    return {
        "items": [without_image(item) for item in page.items],
        "next_page_token": page.next_page_token,
        "open": page.open,
    }


async def image(request: Request, client: AsyncClient) -> Response:
    """Return an image of the inbox."""
    return picture((await client.inbox_image(text(request, "id"), max_side=number(request, "side", 0))).image)


async def label(request: Request, client: AsyncClient) -> Any:
    """Label images, and return what became of each."""
    (items,) = await fields(request, items=list[dict[str, Any]])
    labels = {}
    for item in items:
        if not isinstance(item.get("id"), str) or not isinstance(item.get("label"), str):
            raise invalid("items: each has an id and a label")
        labels[item["id"]] = item["label"]
    return {"results": await client.label_inbox(labels)}


async def skip(request: Request, client: AsyncClient) -> Any:
    """Skip images."""
    (ids,) = await fields(request, ids=list[str])
    return await client.skip_inbox(ids)


async def reopen(request: Request, client: AsyncClient) -> Any:
    """Open images again, and take back what labelling them taught."""
    (ids,) = await fields(request, ids=list[str])
    return await client.reopen_inbox(ids)


ROUTES = [
    route("inbox", inbox),
    route("inbox/image", image),
    route("inbox/label", label, "POST"),
    route("inbox/skip", skip, "POST"),
    route("inbox/reopen", reopen, "POST"),
]
