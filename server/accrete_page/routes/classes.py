"""The classes and what is kept of them."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

from starlette.requests import Request

from accrete import AsyncClient, ClassEvaluation, NotFound, NotNow, PermissionDenied, VersionEvaluation
from accrete.cli.output import plain
from accrete_page.requests import fields, route

_CONFUSED = 5
"""How many other classes a class is said to be confused with."""


async def classes(request: Request, client: AsyncClient) -> Any:
    """Return all classes, each with how the live version judged it and what it took it for."""
    infos, judged = await asyncio.gather(client.classes(), _evaluation(client))
    figures = {one.label: one for one in judged.classes} if judged else {}
    confused: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for one in judged.confusions if judged else ():
        if len(confused[one.label]) < _CONFUSED:
            confused[one.label].append({"label": one.predicted, "examples": one.examples})
    return [
        plain(info) | _figures(figures.get(info.label)) | {"confused_with": confused.get(info.label, [])}
        for info in infos
    ]


async def _evaluation(client: AsyncClient) -> VersionEvaluation | None:
    """Return how the live version judged; None where nothing is live or known of it, or to one who may not see it."""
    try:
        return await client.evaluation()
    except (NotNow, NotFound, PermissionDenied):
        return None


def _figures(judged: ClassEvaluation | None) -> dict[str, Any]:
    if judged is None or not judged.examples:
        return {"correct": None, "examples": None, "low": None, "high": None}
    return {"correct": judged.correct, "examples": judged.examples, "low": judged.low, "high": judged.high}


async def rename(request: Request, client: AsyncClient) -> Any:
    """Give a class another name."""
    label, new_label = await fields(request, label=str, new_label=str)
    return {"examples": await client.rename_class(label, new_label)}


async def merge(request: Request, client: AsyncClient) -> Any:
    """Make a class part of another one."""
    label, into = await fields(request, label=str, into=str)
    return {"examples": await client.merge_classes(label, into)}


async def forget(request: Request, client: AsyncClient) -> Any:
    """Remove a class."""
    (label,) = await fields(request, label=str)
    return await client.forget_class(label)


ROUTES = [
    route("classes", classes),
    route("classes/rename", rename, "POST"),
    route("classes/merge", merge, "POST"),
    route("classes/forget", forget, "POST"),
]
