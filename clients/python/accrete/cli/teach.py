"""`accrete add` teaches labelled images, `accrete wait` waits until they are learned."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from .._calls.example_batches import BATCH_SIZE
from .._calls.folder import FoundImages, find_images, read_table, told
from .._calls.progress import shown
from .._client import Client
from .._errors import InvalidInput, NotLearned
from .._inputs import Example
from .._results import AddReport
from . import exits
from .connection import Connection
from .options import Ids, Output, read_ids
from .output import plain, table, to_json
from .waiting import wait_learned

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
    table_of: Annotated[
        bool, typer.Option("--table", help="PATH is a CSV file with the columns file and label.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show labels, counts and what is passed over; store nothing.")
    ] = False,
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

    Give a tree with one folder for each label, files with --label, or CSV files with --table, whose files are named
    from the CSV file's folder. JPEG, PNG, WebP, BMP, AVIF, HEIC and .npy files count (HEIC where the server has its
    extra); others in a tree, and hidden ones, are passed over and counted. Adding the same again stores nothing twice.
    Exit status 1 when any image was refused; the others are stored all the same. --wait shows how far the learner is,
    and ends with 1 at once where it is in vain: learning is paused, or all that waits is set aside.

    Example:
        accrete add photos/ --dry-run
        accrete add photos/ --wait
        accrete add --label heron heron-*.jpg
        accrete add --table photos/labels.csv
    """
    if label is not None and table_of:
        raise exits.UsageError("--label and --table exclude each other")
    found = _found(paths, label, table_of)
    if dry_run:
        output.show(
            {"labels": found.labels, "skipped": found.skipped, "warnings": found.warnings}, "\n".join(_plan(found))
        )
        return exits.OK
    if label is None:
        for line in found.warnings if output.json else _plan(found):
            print(line, file=sys.stderr, flush=True)
    with connection.client(spread=True) as client:
        report = _add(client, found, batch_size)
        if not output.json:
            print(_text(report), flush=True)
        version = None
        try:
            if wait is not None and report.ids:
                _tell_of_waiting(wait)
                version = wait_learned(client, report.ids, found.labels.keys(), wait)
        except NotLearned as error:
            error.details += "" if error.in_vain else f"; {_WHY}"
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


def _found(paths: list[Path], label: str | None, table_of: bool) -> FoundImages:
    """Return what the paths hold. Raises UsageError."""
    if label is not None:
        missing = [str(path) for path in paths if not path.exists()]
        if missing:
            raise exits.UsageError(f"{missing[0]}: no such file{exits.and_more(missing)}; nothing was stored")
        return FoundImages([Example(label, path) for path in paths])
    found = FoundImages()
    for path in paths:
        try:
            one = read_table(path) if table_of else find_images(path)
        except InvalidInput as error:
            raise exits.UsageError(error.details) from error
        found.examples += one.examples
        found.skipped += one.skipped
        found.warnings += one.warnings
    return found


def _plan(found: FoundImages) -> list[str]:
    """Return lines that say what will be stored."""
    labels = list(found.labels.items())
    lines = [table(["label", "images"], labels[:_SHOWN])]
    if len(labels) > _SHOWN:
        lines.append(f"and {len(labels) - _SHOWN} more labels; --dry-run --json lists all")
    lines.append(f"{len(found.examples)} images of {len(labels)} labels")
    if found.skipped:
        lines.append(f"passed over: {told(found.skipped)}")
    return [*lines, *(f"warning: {warning}" for warning in found.warnings)]


def _add(client: Client, found: FoundImages, batch_size: int) -> AddReport:
    report = AddReport(stored=0, duplicates=0, refused=[], ids=[], skipped=dict(found.skipped))
    examples = found.examples
    with shown(True, "examples") as progress:
        for first in range(0, len(examples), max(1, batch_size)):
            progress(first, len(examples))
            part = client.add_examples(examples[first : first + max(1, batch_size)], batch_size=batch_size)
            report = replace(
                report,
                stored=report.stored + part.stored,
                duplicates=report.duplicates + part.duplicates,
                refused=[*report.refused, *(replace(one, index=first + one.index) for one in part.refused)],
                ids=report.ids + part.ids,
            )
        progress(len(examples), len(examples))
    return report


def _text(report: AddReport) -> str:
    lines = [f"{report.stored} stored, {report.duplicates} stored before, {len(report.refused)} refused"]
    lines += [f"  {one.source or one.index} ({one.label}): {one.reason}" for one in report.refused[:_SHOWN]]
    if len(report.refused) > _SHOWN:
        lines.append(f"  and {len(report.refused) - _SHOWN} more; --json lists all")
    return "\n".join(lines)


def wait(ids: Ids, connection: Connection, output: Output) -> int:
    """Return when the examples with these ids are in the live version.

    Exit status 1 when they are not in time, which --timeout says, or at once when they cannot be before somebody acts:
    learning is paused, or all that is pending is set aside.

    Example:
        accrete add photos/ --json | jq -r '.ids[]' | accrete wait - --timeout 600
    """
    given = read_ids(ids)
    with connection.client(spread=True) as client:
        try:
            version, waiting = wait_learned(client, given, None, connection.timeout), list[str]()
            text = f"learned in version {version}"
        except NotLearned as error:
            version, waiting = error.version, list(error.waiting)
            text = f"{len(waiting)} of {len(given)} are not in version {version} yet; {_WHY}"
            if error.in_vain:
                text = error.details
    output.show({"learned": not waiting, "version": version, "waiting": waiting}, text)
    return exits.FAILED if waiting else exits.OK
