"""`accrete add` teaches labelled images, `accrete wait` waits until they are learned."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Annotated

import typer

from .._client import Client
from .._errors import NotLearned
from .._example_batches import BATCH_SIZE
from .._inputs import Example
from .._results import AddReport
from . import exits
from .connection import Connection
from .options import Ids, Output, read_ids
from .output import plain, to_json

_SHOWN = 20  # refused examples that are listed for people; JSON has all
_DEFAULT_WAIT_S = 600.0
_WHY = "`accrete quarantine` lists what is set aside after failed or rejected steps"


def _seconds(text: str) -> float:
    try:
        value = float(text or _DEFAULT_WAIT_S)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        allowed = "a positive number of seconds is allowed; without a number it comes after the paths"
        raise typer.BadParameter(f"{text}: {allowed}")
    return value


def add(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH", help="Folders; with --label, files.")],
    connection: Connection,
    output: Output,
    label: Annotated[str | None, typer.Option(metavar="LABEL", help="The label of all files.")] = None,
    batch_size: Annotated[int, typer.Option(metavar="N", help="Examples per call.")] = BATCH_SIZE,
    wait: Annotated[
        float | None,
        typer.Option(
            parser=_seconds,
            metavar="[SECONDS]",
            help=f"Return when all of it is in the live version, at most this long. [default: {_DEFAULT_WAIT_S:g}]",
        ),
    ] = None,
) -> int:
    """Store labelled images, from which the server learns in the background.

    Give a tree with one folder for each label, or files with --label. JPEG, PNG, WebP, BMP and .npy files count; others
    in a tree are left out. Adding the same again stores nothing twice. Exit status 1 when any image was refused; the
    others are stored all the same.

    Example:
        accrete add photos/ --wait
        accrete add --label heron heron-*.jpg
    """
    with connection.client() as client:
        report = _add(client, paths, label, batch_size)
        if not output.json:
            print(_text(report), flush=True)
        version = None
        try:
            if wait is not None and report.ids:
                _tell_of_waiting(wait)
                version = client.wait_learned(report.ids, wait)
        except NotLearned as error:
            error.details += f"; {_WHY}"
            raise
        finally:
            if output.json:  # also when the wait is in vain: the ids are in it
                print(to_json({**plain(report), "version": version}))
    if version is not None and not output.json:
        print(f"learned in version {version}")
    return exits.FAILED if report.refused else exits.OK


def _tell_of_waiting(seconds: float) -> None:
    if sys.stderr.isatty():
        text = f"waiting until it is learned, {seconds:g} s at most; Ctrl-C ends the waiting, not the learning"
        print(text, file=sys.stderr)


def _add(client: Client, paths: list[Path], label: str | None, batch_size: int) -> AddReport:
    if label is not None:
        return client.add_examples([Example(label, path) for path in paths], batch_size=batch_size)
    reports = [client.add_folder(path, batch_size=batch_size) for path in paths]
    return AddReport(
        stored=sum(one.stored for one in reports),
        duplicates=sum(one.duplicates for one in reports),
        refused=[refused for one in reports for refused in one.refused],
        ids=[id for one in reports for id in one.ids],
    )


def _text(report: AddReport) -> str:
    lines = [f"{report.stored} stored, {report.duplicates} stored before, {len(report.refused)} refused"]
    lines += [f"  {one.source or one.index} ({one.label}): {one.reason}" for one in report.refused[:_SHOWN]]
    if len(report.refused) > _SHOWN:
        lines.append(f"  and {len(report.refused) - _SHOWN} more; --json lists all")
    return "\n".join(lines)


def wait(ids: Ids, connection: Connection, output: Output) -> int:
    """Return when the examples with these ids are in the live version.

    Exit status 1 when they are not in time, which --timeout says.

    Example:
        accrete add photos/ --json | jq -r '.ids[]' | accrete wait - --timeout 600
    """
    given = read_ids(ids)
    with connection.client() as client:
        try:
            version, waiting = client.wait_learned(given, connection.timeout), list[str]()
        except NotLearned as error:
            version, waiting = error.version, list(error.waiting)
    text = f"learned in version {version}"
    if waiting:
        text = f"{len(waiting)} of {len(given)} are not in version {version} yet; {_WHY}"
    output.show({"learned": not waiting, "version": version, "waiting": waiting}, text)
    return exits.FAILED if waiting else exits.OK
