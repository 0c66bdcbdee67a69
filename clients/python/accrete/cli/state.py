"""The commands that look at the server, such as `accrete status`, `classes` and `versions`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from .._client import Client
from .._errors import IncompatibleServer, NotFound, NotNow, PermissionDenied
from .._results import ClassEvaluation, ServerInfo, Status, VersionComparison, VersionInfo
from .connection import Connection
from .options import Output
from .output import counted, duration, local_time, measured, pairs, percent, plain, size, table
from .waiting import progress_line

_SHOWN = 20
"""Rows of a list that may be long, for people; JSON has all."""


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
        *([("caller", f"{status.principal}, {', '.join(status.roles)}")] if status.principal else []),
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
        *([("front", status.front)] if status.front else []),
        *([("servers", status.servers)] if status.servers else []),
        ("store", status.store if status.store_alive else f"{status.store} does not answer".strip()),
        ("release", status.release),
    ]
    waiting = [
        ("set aside", ", ".join(status.held_labels)),
        ("in review", status.in_review),
        ("inbox", status.inbox_open),
    ]
    return lines + [(name, value) for name, value in waiting if value] + [("warning", one) for one in status.warnings]


def _unknown(status: Status) -> str:
    if not status.unknown_rate:
        return "off"
    asked, holdout = percent(status.unknown_rate), f"the hold-out ({status.holdout} images)"
    if not status.false_alarm_rate:
        return f"nothing: {holdout} is too small for {asked} of false alarms"
    return f"{percent(status.false_alarm_rate)} of false alarms by {holdout}, {asked} allowed"


def servers(connection: Connection, output: Output) -> None:
    """List the servers over which the Python client spreads its calls: those that set `server.advertise`.

    Example:
        accrete servers
    """
    with connection.client() as client:
        found = client.servers()
    columns: dict[str, Callable[[ServerInfo], object]] = {
        "address": lambda one: one.address,
        "state": lambda one: one.state,
        "version": lambda one: one.version or None,
        "busy": lambda one: percent(one.busyness),
        "started": lambda one: local_time(one.started_ms),
        "release": lambda one: one.release,
        "id": lambda one: one.id[:8],
    }
    rows = [[value(one) for value in columns.values()] for one in found]
    output.show(found, table(list(columns), rows) if found else "The server tells of none (server.advertise).")


def classes(connection: Connection, output: Output) -> None:
    """List all labels and how far they have come, with the examples that are kept of each.

    A label is pending (examples are stored), provisional (predicted from a prototype), learned (in the weights) or
    forgotten. The accuracy is that of the live version when it was made, with its 95 % interval.

    Example:
        accrete classes
    """
    with connection.client() as client:
        found = client.classes()
        judged = _judged(client)
    rows = [
        (c.label, c.state, c.since_version or None, c.pending, c.exemplars, c.holdout, *_accuracy(judged.get(c.label)))
        for c in found
    ]
    headers = ["label", "state", "since", "pending", "exemplars", "hold-out", "accuracy", "95 % interval"]
    told = [{**plain(one), "judged": judged.get(one.label)} for one in found]
    output.show(told, table(headers, rows))


def _judged(client: Client) -> dict[str, ClassEvaluation]:
    """Return by label how the live version judged; nothing where that is not known, or not for this caller to know."""
    try:
        return {one.label: one for one in client.evaluation().classes}
    except (NotNow, NotFound, PermissionDenied, IncompatibleServer):
        return {}


def _accuracy(one: ClassEvaluation | None) -> tuple[str | None, str | None]:
    if one is None or not one.examples:
        return None, None
    return measured(one.correct / one.examples, one.examples), f"{one.low * 100:.0f} to {one.high * 100:.0f} %"


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


def versions(
    connection: Connection,
    output: Output,
    compare: Annotated[
        tuple[int, int] | None,
        typer.Option(metavar="BASE OTHER", help="Show what version OTHER judges otherwise than BASE instead."),
    ] = None,
) -> None:
    """List all model versions, newest first, with their accuracy on the hold-out and the images that it is of.

    With `--compare`, two of them by class, worst change first, on the examples that both judged, and the examples that
    one had right and the other wrong. `accrete mistakes` shows one version.

    Example:
        accrete versions --compare 11 12
    """
    with connection.client() as client:
        if compare is not None:
            _show_comparison(output, client.compare(*compare), *compare)
            return
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


def _show_comparison(output: Output, found: VersionComparison, base: int, other: int) -> None:
    def right(correct: int, examples: int) -> str | None:
        return measured(correct / examples, examples)

    rows = [
        (
            one.label,
            right(one.base_correct, one.examples),
            right(one.other_correct, one.examples),
            one.other_correct - one.base_correct,
        )
        for one in found.classes
    ]
    parts = [f"{found.examples} examples that both judged", table(["label", f"v{base}", f"v{other}", "change"], rows)]
    for title, examples in ((f"only v{base} has right", found.lost), (f"only v{other} has right", found.gained)):
        told = [(one.label, one.base_predicted, one.other_predicted, one.id) for one in examples[:_SHOWN]]
        more = f"\n{_SHOWN} of {len(examples)}; --json has all" if len(examples) > _SHOWN else ""
        parts.append(f"{len(examples)} that {title}")
        if told:
            parts[-1] += "\n" + table(["label", f"v{base} says", f"v{other} says", "id"], told) + more
    output.show(found, "\n\n".join(parts))


def mistakes(
    connection: Connection,
    output: Output,
    version: Annotated[int, typer.Argument(metavar="[VERSION]", help="See `accrete versions`; 0: the live one.")] = 0,
) -> None:
    """List what a version took for what when it was made, and the stored examples that it got wrong.

    Nothing is computed. `accrete eval` measures the live version on images of your own, and `accrete examples LABEL
    --id ID --save DIR` has the images, as far as they are kept.

    Example:
        accrete mistakes --json | jq -r '.mistakes[].id'
    """
    with connection.client() as client:
        found = client.evaluation(version or None)
    judged = {one.label: one for one in found.classes}
    correct = sum(one.correct for one in found.classes)
    told = f"version {found.version}: {counted(correct, found.examples)} right"
    confusions = [
        (one.label, one.predicted, f"{one.examples} of {judged[one.label].examples}")
        for one in found.confusions[:_SHOWN]
    ]
    wrong = [(one.label, one.predicted, percent(one.probability), one.id) for one in found.mistakes[:_SHOWN]]
    parts = [told]
    if confusions:
        parts.append(table(["label", "taken for", "examples"], confusions))
    if wrong:
        more = f"\n{_SHOWN} of {len(found.mistakes)}; --json has all" if len(found.mistakes) > _SHOWN else ""
        parts.append(table(["label", "taken for", "probability", "id"], wrong) + more)
    output.show(found, "\n\n".join(parts))
