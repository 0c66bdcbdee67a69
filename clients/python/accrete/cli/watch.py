"""`accrete watch` prints what the learner does."""

from __future__ import annotations

import contextlib
import itertools
import math
from typing import Annotated

import typer

from .. import _events as events
from .._results import Accuracy
from .connection import Connection
from .options import Output
from .output import local_time, measured, plain, to_json


def watch(
    connection: Connection,
    output: Output,
    after: Annotated[
        str, typer.Option(metavar="ID", show_default=False, help="Go on after this event; 0: all that are kept.")
    ] = "",
    count: Annotated[int | None, typer.Option(metavar="N", help="End after so many events.")] = None,
) -> None:
    """Print a line for each thing that the learner does, until Ctrl-C, across broken connections.

    With --json, print one JSON object per line.

    Example:
        accrete watch --after 0
    """
    with connection.client() as client, contextlib.suppress(KeyboardInterrupt):  # this is how a watch ends
        for event in itertools.islice(client.watch(after=after), count):
            print(_json(event) if output.json else line(event), flush=True)


def _json(event: events.Event) -> str:
    body = {"id": event.id, "time_ms": event.time_ms, "kind": event.kind, **plain(event.what)}
    return to_json(body, indent=None)


def line(event: events.Event) -> str:
    """Return an event for people, such as "14:03:11  committed    version 3: ..."."""
    return f"{local_time(event.time_ms, '%H:%M:%S')}  {event.kind:<11}  {_told(event.what)}".rstrip()


def _told(what: events.What) -> str:
    match what:
        case events.PhaseChanged():
            return f"{what.phase}{f': {what.reason}' if what.reason else ''}"
        case events.Progress():
            loss = f", loss {what.loss:.3f}" if math.isfinite(what.loss) else ""
            return f"version {what.version}: {what.stage} {what.done} of {what.total}{loss}"
        case events.VersionCommitted():
            new = ", ".join(what.new_labels) or "no new class"
            return f"version {what.version}: {new} in {what.step_seconds:.1f} s{_measured(what.accuracy)}"
        case events.VersionActivated():
            return f"version {what.version}{' (pinned)' if what.pinned else ''}"
        case events.StepRejected():
            return f"version {what.version}: {what.reason}{_measured(what.accuracy)}"
        case events.StepFailed():
            return f"attempt {what.attempt}: {what.reason}"
        case events.ClassForgotten():
            return what.label
        case events.ClassProvisional():
            return f"{what.label}, from {what.examples} examples"
        case events.ExamplesReviewed():
            return f"{what.label}: {what.examples} examples set aside ({', '.join(what.reasons)})"
        case events.Unrecognised():
            return "something that this client does not know"


def _measured(accuracy: Accuracy) -> str:
    measures = (
        ("all", accuracy.all, accuracy.examples),
        ("old", accuracy.old, accuracy.old_examples),
        ("new", accuracy.new, accuracy.new_examples),
    )
    parts = [f"{name} {measured(share, images)}" for name, share, images in measures if share is not None]
    return f"; accuracy {', '.join(parts)}" if parts else "; accuracy not measured: no hold-out"
