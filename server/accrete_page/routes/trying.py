"""Ask about one image, and teach it."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request

from accrete import AsyncClient, NotFound, NotLearned, PermissionDenied, Prediction
from accrete_page.errors import invalid
from accrete_page.requests import image, route, text

_LOOK_S = 0.05
"""Seconds that a look whether examples are learned waits for it."""
_MOST_IDS = 200
_NEAR_LABELS, _NEAR_EACH = 3, 4
"""How many of the likeliest labels are shown by how many of their exemplars."""


async def ask(request: Request, client: AsyncClient) -> Any:
    """Return the ranked answer for an image."""
    prediction = await client.predict(await image(request), features=True)
    return {
        "labels": prediction.ranked,
        "unknown": prediction.unknown,
        "doubt": prediction.doubt(),
        "needs_review": prediction.needs_review,
        "version": prediction.version,
        "timings": prediction.timings,
        "nearest": await _exemplars(client, prediction),
    }


async def _exemplars(client: AsyncClient, prediction: Prediction) -> list[dict[str, Any]]:
    """Return the exemplars most like an image, by likely label; none to a caller who may see no image."""
    labels = [one.label for one in prediction.ranked[:_NEAR_LABELS]]
    found = await asyncio.gather(
        *(
            client.examples(label, kind="exemplars", page_size=_NEAR_EACH, nearest_to=prediction.features)
            for label in labels
        ),
        return_exceptions=True,
    )
    for one in found:
        if isinstance(one, BaseException) and not isinstance(one, PermissionDenied | NotFound):
            raise one
    pages = [one for one in found if not isinstance(one, BaseException)]
    return [{"label": one.label, "id": one.id, "kind": one.kind} for page in pages for one in page.examples]


async def teach(request: Request, client: AsyncClient) -> Any:
    """Teach an image under a label."""
    report = await client.add_examples([(text(request, "label"), await image(request))])
    if report.refused:
        raise invalid(report.refused[0].reason)
    return {"id": report.ids[0], "outcome": "stored" if report.stored else "duplicate"}


async def learned(request: Request, client: AsyncClient) -> Any:
    """Return whether examples are in the live version."""
    ids = request.query_params.getlist("id")
    if not 0 < len(ids) <= _MOST_IDS:
        raise invalid(f"id: the query must have 1 to {_MOST_IDS}")
    try:
        return {"learned": True, "version": await client.wait_learned(ids, timeout=_LOOK_S), "waiting": []}
    except NotLearned as error:
        return {"learned": False, "version": error.version, "waiting": error.waiting}


ROUTES = [route("try", ask, "POST"), route("teach", teach, "POST"), route("learned", learned)]
