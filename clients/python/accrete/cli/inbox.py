"""`accrete inbox` shows the images that the model was unsure of, and takes what people say they show."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Annotated, Literal, get_args

import typer

from .._client import Client
from .._results import InboxItem, InboxReport
from . import exits
from .connection import Connection
from .exits import UsageError
from .options import Output, read_ids
from .output import local_time, percent, table

Order = Literal["doubt", "newest", "look"]
State = Literal["open", "labelled", "skipped"]

_PAGE = 200
_SIDE = 1024
"""Pixels of the longer side of images that are saved, at most; the server keeps no larger ones."""
_SUFFIXES = {"image/jpeg": ".jpg", "image/png": ".png", "image/webp": ".webp"}


def inbox(
    connection: Connection,
    output: Output,
    action: Annotated[
        Literal["list", "label", "skip", "reopen"],
        typer.Argument(metavar="ACTION", help="list, label, skip or reopen."),
    ] = "list",
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="WORDS", help="Ids; for label, the label before them. - reads ids from stdin."),
    ] = None,
    order: Annotated[
        Order, typer.Option(metavar="ORDER", help=f"Of the list: {', '.join(get_args(Order))}.")
    ] = "doubt",
    state: Annotated[State, typer.Option(metavar="STATE", help=f"To list: {', '.join(get_args(State))}.")] = "open",
    limit: Annotated[int, typer.Option(min=0, metavar="N", help="How many to list at most; 0: all.")] = 50,
    save: Annotated[
        pathlib.Path | None, typer.Option(metavar="DIR", help="Write the listed images into this folder, by their ids.")
    ] = None,
) -> None:
    """List the images that callers asked about and the model was unsure of, and say what they show.

    They are kept where the server's setting inbox.enabled is on. `label` teaches images under a label, as `accrete add`
    does; `skip` sets them aside; `reopen` undoes either, and deletes the examples that were made.

    Example:
        accrete inbox --order look --save inbox/
        accrete inbox label heron inbox-0193b1c2d3e-5f2a77c19b04
    """
    given = words or []
    with connection.client() as client:
        if action == "list":
            if given:
                raise UsageError(f"list takes no {given[0]!r}; --state and --order choose what is listed")
            _list(client, output, order, state, limit, save)
        elif action == "label":
            if len(given) < 2:
                raise UsageError("label takes a label and at least one id: accrete inbox label heron ID")
            _label(client, output, given[0], read_ids(given[1:]))
        elif not given:
            raise UsageError(f"{action} takes at least one id")
        elif action == "skip":
            _tell(output, client.skip_inbox(read_ids(given)), "skipped")
        else:
            _tell(output, client.reopen_inbox(read_ids(given)), "open again")


def _list(client: Client, output: Output, order: Order, state: State, limit: int, save: pathlib.Path | None) -> None:
    found: list[InboxItem] = []
    token, waiting = "", 0
    while not found or (token and (not limit or len(found) < limit)):
        size = min(_PAGE, limit - len(found)) if limit else _PAGE
        page = client.inbox(
            order=order, state=state, page_size=size, page_token=token, max_side=_SIDE if save is not None else 0
        )
        for item in page.items:
            if save is not None and item.image:
                _save(save, item)
            found.append(dataclasses.replace(item, image=b""))
        token, waiting = page.next_page_token, page.open
        if not page.items:
            break
    rows = [
        (one.id, local_time(one.time_ms), one.why, one.principal or None, one.group or None, one.label or _likely(one))
        for one in found
    ]
    told = [
        {name: value for name, value in dataclasses.asdict(one).items() if name not in ("image", "media_type")}
        for one in found
    ]
    last = "label" if state == "labelled" else "likely"
    listed = table(["id", "asked", "why", "principal", "group", last], rows)
    if not found and not client.status().inbox_enabled:
        listed = "nothing is kept: the server's setting inbox.enabled is off"
    elif token or state != "open":
        listed += f"\n{len(found)} listed; {waiting} open in all"
    output.show(told, listed)


def _likely(item: InboxItem) -> str:
    return ", ".join(f"{one.label} {percent(one.probability)}" for one in item.labels[:3])


def _save(folder: pathlib.Path, item: InboxItem) -> None:
    path = folder / (pathlib.PurePosixPath(item.id).name + _SUFFIXES.get(item.media_type, ""))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(item.image)
    except OSError as error:
        raise UsageError(f"--save {error.filename or folder}: {error.strerror or error}") from error


def _label(client: Client, output: Output, label: str, ids: Sequence[str]) -> None:
    results = client.label_inbox(dict.fromkeys(ids, label))
    rows = [(one.id, one.outcome, one.reason or None) for one in results]
    output.show(results, table(["id", "outcome", "reason"], rows))
    if any(one.outcome == "refused" for one in results):
        raise typer.Exit(exits.FAILED)


def _tell(output: Output, report: InboxReport, what: str) -> None:
    unknown = f", {len(report.unknown)} not in the inbox, or no longer" if report.unknown else ""
    output.show(report, f"{report.changed} {what}{unknown}")
