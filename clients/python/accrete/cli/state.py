"""The commands that look at the server: `accrete status`, `classes`, `versions` and `quarantine`."""

from __future__ import annotations

from collections.abc import Callable

from .._results import Status, VersionInfo
from .connection import Connection
from .options import Output
from .output import duration, local_time, measured, pairs, percent, size, table
from .waiting import progress_line


def status(connection: Connection, output: Output) -> None:
    """Print the live version, what the learner does, and what is stored.

    Example:
        accrete status --json | jq .pending
    """
    with connection.client() as client:
        found = client.status()
    output.show(found, pairs(_status_lines(found)))


def _status_lines(status: Status) -> list[tuple[str, object]]:
    live = f"{status.version or 'none yet'}{' (pinned)' if status.pinned else ''}"
    catching_up = f", version {status.active_version} is loading" if status.active_version != status.version else ""
    told = status.phase in ("blocked", "waiting", "training") and status.phase_reason
    learner = f"{status.phase}{f': {status.phase_reason}' if told else ''}" if status.learner_alive else "not running"
    oldest = f", oldest {duration(status.oldest_pending_ms)}" if status.pending else ""
    kept = f"{status.exemplars} of {status.exemplar_budget}, {size(status.exemplar_bytes)}"
    lines: list[tuple[str, object]] = [
        ("node", f"{status.node or '-'}, data {status.data_dir or '-'}"),
        ("version", live + catching_up),
        ("classes", f"{status.classes}, {status.provisional_classes} provisional"),
        ("learner", f"{learner}{', paused' if status.paused and learner != 'paused' else ''}"),
        *([("step", progress_line(status.progress))] if status.progress else []),
        *(("waits for" if not place else "", text) for place, text in enumerate(status.waits_for)),
        ("method", status.method),
        ("deep step", status.deep or None),
        ("pending", f"{status.pending}{oldest}"),
        ("exemplars", kept),
        ("hold-out", status.holdout),
        ("unknown", _unknown(status)),
        ("input", " x ".join(map(str, status.input_shape))),
        ("engine", status.engine or None),
        ("store", status.store if status.store_alive else f"{status.store} does not answer".strip()),
        ("release", status.release),
    ]
    waiting = [("set aside", ", ".join(status.held_labels)), ("in review", status.in_review)]
    return lines + [(name, value) for name, value in waiting if value] + [("warning", one) for one in status.warnings]


def _unknown(status: Status) -> str:
    if not status.unknown_rate:
        return "off"
    asked, holdout = percent(status.unknown_rate), f"the hold-out ({status.holdout} images)"
    if not status.false_alarm_rate:
        return f"nothing: {holdout} is too small for {asked} of false alarms"
    return f"{percent(status.false_alarm_rate)} of false alarms by {holdout}, {asked} allowed"


def classes(connection: Connection, output: Output) -> None:
    """List all labels and how far they have come, with the examples that are kept of each.

    A label is pending (examples are stored), provisional (predicted from a prototype), learned (in the weights) or
    forgotten.

    Example:
        accrete classes
    """
    with connection.client() as client:
        found = client.classes()
    rows = [(c.label, c.state, c.since_version or None, c.pending, c.exemplars, c.holdout) for c in found]
    output.show(found, table(["label", "state", "since", "pending", "exemplars", "hold-out"], rows))


def quarantine(connection: Connection, output: Output) -> None:
    """List the labels whose pending examples are set aside, and why.

    Steps with them failed three times, or were rejected by the gate. They wait until there are half as many again, or
    for `accrete trigger`, `accrete retry` or `accrete drop`. New labels that await approval, if the server asks for it,
    wait for `accrete approve` or `accrete drop`.

    Example:
        accrete quarantine
    """
    with connection.client() as client:
        found = client.held()
    rows = [(one.label, one.pending, one.attempts, one.reason) for one in found]
    output.show(found, table(["label", "pending", "attempts", "reason"], rows))


held = quarantine
"""The former name, for the scripts that use it."""


def versions(connection: Connection, output: Output) -> None:
    """List all model versions, newest first, with their accuracy on the hold-out and the images that it is of.

    Example:
        accrete versions
    """
    with connection.client() as client:
        found = client.versions()
    columns: dict[str, Callable[[VersionInfo], object]] = {
        "version": lambda one: one.version,
        "state": lambda one: one.state,
        "": lambda one: ("pinned" if one.pinned else "live") if one.active else "",
        "classes": lambda one: len(one.labels),
        "new": lambda one: len(one.new_labels),
        "all": lambda one: measured(one.accuracy.all, one.accuracy.examples),
        "old": lambda one: measured(one.accuracy.old, one.accuracy.old_examples),
        "new acc.": lambda one: measured(one.accuracy.new, one.accuracy.new_examples),
        "forgetting": lambda one: percent(one.accuracy.forgetting),
        "step": lambda one: f"{one.step_seconds:.1f} s",
        "created": lambda one: local_time(one.created_ms),
        "reason": lambda one: one.reason,
    }
    rows = [[value(one) for value in columns.values()] for one in found]
    output.show(found, table(list(columns), rows))
