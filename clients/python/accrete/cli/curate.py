"""`accrete examples` shows what is stored of a label, and saves its images."""

from __future__ import annotations

import dataclasses
import pathlib
import urllib.parse
from typing import Annotated, Literal, get_args

import typer

from .._client import Client
from .._results import StoredExample
from .connection import Connection
from .exits import UsageError
from .options import Output
from .output import table

Kind = Literal["exemplars", "holdout", "pending", "review"]

_PAGE = 200
_SIDE = 1024
"""Pixels of the longest side of images that are saved, at most, which is the most that a server gives."""
_NAME = 100
"""Characters of an id in the name of a file, at most."""


def examples(
    label: Annotated[str, typer.Argument(metavar="LABEL", help="See `accrete classes`.")],
    connection: Connection,
    output: Output,
    kind: Annotated[
        Kind | None, typer.Option(metavar="KIND", help=f"These alone: {', '.join(get_args(Kind))}.")
    ] = None,
    ids: Annotated[
        list[str] | None, typer.Option("--id", metavar="ID", help="This alone; may be given up to 200 times.")
    ] = None,
    limit: Annotated[int, typer.Option(min=0, metavar="N", help="How many at most; 0: all.")] = 100,
    save: Annotated[
        pathlib.Path | None, typer.Option(metavar="DIR", help="Write their images into this folder.")
    ] = None,
) -> None:
    """List what is stored of a label: exemplars best first, hold-out, pending examples, and those in review.

    Images are as they are stored, in the model's size, which is no more than the server keeps.

    Example:
        accrete examples heron --kind exemplars --save heron/
    """
    with connection.client() as client:
        found, total = _read(client, label, kind, ids or [], limit, save)
    rows = [
        (one.id or None, one.kind, one.rank or None, one.principal or None, _remarks(one), one.damage or None)
        for one in found
    ]
    listed = table(["id", "kind", "rank", "principal", "remarks", "damage"], rows)
    more = f"\n{len(found)} of {total}; --limit 0 lists all" if len(found) < total else ""
    told = [
        {name: value for name, value in dataclasses.asdict(one).items() if name not in ("image", "media_type")}
        for one in found
    ]
    output.show(told, listed + more)


def _read(
    client: Client, label: str, kind: Kind | None, ids: list[str], limit: int, save: pathlib.Path | None
) -> tuple[list[StoredExample], int]:
    """Return a label's examples, without their images once these are saved, and how many there are."""
    found: list[StoredExample] = []
    token, total = "", 0
    side = _SIDE if save else 0
    while not found or (token and (not limit or len(found) < limit)):
        size = min(_PAGE, limit - len(found)) if limit else _PAGE
        page = client.examples(label, kind=kind, ids=ids, page_size=size, page_token=token, max_side=side)
        for one in page.examples:
            if save is not None and one.image:
                _save(save, len(found) + 1, one)
            found.append(dataclasses.replace(one, image=b"") if save is not None else one)
        token, total = page.next_page_token, page.total
        if not page.examples:
            break
    return found, total


def _save(folder: pathlib.Path, number: int, one: StoredExample) -> None:
    """Write an example's image; its id may hold anything, so its file's name is a number and what is harmless of it."""
    name = urllib.parse.quote(one.id, safe="")[:_NAME].replace(".", "%2E")
    path = folder / f"{one.kind}-{number:06d}-{name}.{'jpg' if one.media_type == 'image/jpeg' else 'png'}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(one.image)
    except OSError as error:
        raise UsageError(f"--save {error.filename or folder}: {error.strerror or error}") from error


def _remarks(one: StoredExample) -> str | None:
    return ", ".join((*(["made by a step"] if one.synthesised else []), *one.reasons)) or None
