"""`accrete watch` prints what the learner does."""

from __future__ import annotations

import contextlib
import itertools
import math
import sys
from collections.abc import Iterable
from typing import Annotated

import typer

from .. import _events as events
from .._results import Accuracy
from .connection import Connection
from .moving_line import MovingLine
from .options import Output
from .output import duration, local_time, measured, plain, to_json


def watch(
    connection: Connection,
    output: Output,
    after: Annotated[
        str, typer.Option(metavar="ID", show_default=False, help="Go on after this event; 0: all that are kept.")
    ] = "",
    count: Annotated[int | None, typer.Option(metavar="N", help="End after so many events.")] = None,
) -> None:
    """Print a line for each thing that the learner does, until Ctrl-C, across broken connections.

    How far a step is moves in one line on a terminal; elsewhere a line tells of each stage that is through. With
    --json, print one JSON object per line for every event.

    Example:
        accrete watch --after 0
    """
    with connection.client() as client, contextlib.suppress(KeyboardInterrupt):  # this is how a watch ends
        shown = itertools.islice(client.watch(after=after), count)
        if output.json:
            for event in shown:
                print(_json(event), flush=True)
        else:
            _show(shown)


def _show(shown: Iterable[events.Event]) -> None:
    pace = _Pace()
    with MovingLine(sys.stdout) as moving:
        for event in shown:
            if isinstance(event, events.Progress) and event.done < event.total:
                if sys.stdout.isatty():
                    moving.show(f"{line(event)}{pace.left(event)}", event.stage)
                continue
            pace.begin(event)
            moving.clear()
            print(line(event), flush=True)


class _Pace:
    """How long a stage will still take, by the times of its events."""

    def __init__(self) -> None:
        self._began_ms: int | None = None

    def begin(self, event: events.Event) -> None:
        """Note that the next stage begins with this event."""
        self._began_ms = event.time_ms

    def left(self, event: events.Progress) -> str:
        """Return it for people; nothing where it is not known."""
        if self._began_ms is None or not event.done:
            return ""
        left_ms = (event.time_ms - self._began_ms) / event.done * (event.total - event.done)
        return f", {duration(round(left_ms))} left"


def _json(event: events.Event) -> str:
    return to_json({"id": event.id, "time_ms": event.time_ms, "kind": event.kind, **plain(event)}, indent=None)


def line(event: events.Event) -> str:
    """Return an event for people, such as "14:03:11  committed    version 3: ..."."""
    return f"{local_time(event.time_ms, '%H:%M:%S')}  {event.kind:<11}  {_told(event)}".rstrip()


def _told(what: events.Event) -> str:
    match what:
        case events.PhaseChanged():
            return f"{what.phase}{f': {what.reason}' if what.reason else ''}"
        case events.Progress():
            loss = f", loss {what.loss:.3f}" if math.isfinite(what.loss) else ""
            version = f"version {what.version}: " if what.version else ""
            return f"{version}{what.stage} {what.done} of {what.total}{loss}"
        case events.VersionCommitted():
            new = ", ".join(what.new_labels) or "no new class"
            return f"version {what.version}: {new} in {what.step_seconds:.1f} s{_measured(what.accuracy)}"
        case events.VersionActivated():
            return f"version {what.version}{' (pinned)' if what.pinned else ''}"
        case events.StepRejected():
            version = f"version {what.version}: " if what.version else ""
            return f"{version}{what.reason}{_measured(what.accuracy)}"
        case events.StepFailed():
            return f"attempt {what.attempt}: {what.reason}"
        case events.StepDiscarded():
            return f"{what.reason}; it is run anew"
        case events.ClassForgotten():
            return what.label
        case events.ClassRenamed():
            return f"{what.label} is {'part of ' if what.merged else ''}{what.new_label} now"
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
