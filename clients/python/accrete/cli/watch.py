"""`accrete watch`."""

from __future__ import annotations

import argparse
import itertools
import math

from .. import _events as events
from .._results import Accuracy
from . import exits, output
from .connection import Subparsers, add_command, connect


def add_watch(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    command = add_command(
        subparsers,
        "watch",
        summary="see what the learner does, as it happens",
        description="Prints a line for each thing that the learner does, until Ctrl-C, across broken connections.",
        example="accrete watch --after 0",
        json="print one JSON object a line",
    )
    command.add_argument("--after", default="", metavar="ID", help="go on after this event; 0: all that are kept")
    command.add_argument("--count", type=int, metavar="N", help="end after so many events")
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    with connect(options) as client:
        try:
            for event in itertools.islice(client.watch(after=options.after), options.count):
                print(_json(event) if options.json else line(event), flush=True)
        except KeyboardInterrupt:
            return exits.OK  # this is how a watch ends
    return exits.OK


def _json(event: events.Event) -> str:
    body = {"id": event.id, "time_ms": event.time_ms, "kind": event.kind, **output.plain(event.what)}
    return output.to_json(body, indent=None)


def line(event: events.Event) -> str:
    """An event for people: "14:03:11  committed    version 3: ..."."""
    return f"{output.local_time(event.time_ms, '%H:%M:%S')}  {event.kind:<11}  {_told(event.what)}".rstrip()


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
    parts = [
        f"{name} {output.percent(share)}"
        for name, share in (("all", accuracy.all), ("old", accuracy.old), ("new", accuracy.new))
        if share is not None
    ]
    return f"; accuracy {', '.join(parts)}" if parts else ""
