"""`accrete status`, `classes`, `versions` and `held`: looking at the server."""

from __future__ import annotations

import argparse

from .._results import Status
from . import exits, output
from .connection import Subparsers, add_command, connect


def add_status(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    add_command(
        subparsers,
        "status",
        summary="the state of server, learner and store",
        description="Prints the live version, what the learner does, and what is stored.",
        example="accrete status --json | jq .pending",
    ).set_defaults(run=_status)


def add_classes(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    add_command(
        subparsers,
        "classes",
        summary="all labels and how far they have come",
        description=(
            "Lists all labels: pending (examples are stored), provisional (answered from a prototype), learned (in\n"
            "the weights) or forgotten, with the examples that are kept of each."
        ),
        example="accrete classes",
    ).set_defaults(run=_classes)


def add_versions(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    add_command(
        subparsers,
        "versions",
        summary="all model versions with their accuracy",
        description="Lists all model versions, newest first, with their accuracy on the hold-out.",
        example="accrete versions",
    ).set_defaults(run=_versions)


def add_held(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    add_command(
        subparsers,
        "held",
        summary="labels whose examples are set aside, and why",
        description=(
            "Lists the labels whose pending examples are set aside: steps with them failed three times, or were\n"
            "rejected by the gate. They wait until there are half as many again, or for `accrete trigger`,\n"
            "`accrete retry` or `accrete drop`. New labels that await approval, if the server asks for it, wait for\n"
            "`accrete approve` or `accrete drop`."
        ),
        example="accrete held",
    ).set_defaults(run=_held)


def _status(options: argparse.Namespace) -> int:
    with connect(options) as client:
        status = client.status()
    print(output.to_json(status) if options.json else output.pairs(_status_lines(status)))
    return exits.OK


def _status_lines(status: Status) -> list[tuple[str, object]]:
    live = f"{status.version or 'none yet'}{' (pinned)' if status.pinned else ''}"
    catching_up = f", version {status.active_version} is loading" if status.active_version != status.version else ""
    blocked = f": {status.phase_reason}" if status.phase == "blocked" else ""
    learner = f"{status.phase}{blocked}" if status.learner_alive else "not running"
    oldest = f", oldest {output.duration(status.oldest_pending_ms)}" if status.pending else ""
    kept = f"{status.exemplars} of {status.exemplar_budget}, {output.size(status.exemplar_bytes)}"
    lines: list[tuple[str, object]] = [
        ("version", live + catching_up),
        ("classes", f"{status.classes}, {status.provisional_classes} provisional"),
        ("learner", f"{learner}{', paused' if status.paused and learner != 'paused' else ''}"),
        ("method", status.method),
        ("pending", f"{status.pending}{oldest}"),
        ("exemplars", kept),
        ("hold-out", status.holdout),
        ("unknown", _unknown(status)),
        ("input", " x ".join(map(str, status.input_shape))),
        ("engine", status.engine or None),
        ("store", status.store if status.store_alive else f"{status.store} does not answer".strip()),
        ("release", status.release),
    ]
    waiting = [("held back", ", ".join(status.held_labels)), ("in review", status.in_review)]
    return lines + [(name, value) for name, value in waiting if value]


def _unknown(status: Status) -> str:
    if not status.unknown_rate:
        return "off"
    asked = output.percent(status.unknown_rate)
    if not status.false_alarm_rate:
        return f"nothing: the hold-out is too small for {asked} of false alarms"
    return f"{output.percent(status.false_alarm_rate)} of false alarms by the hold-out, {asked} allowed"


def _classes(options: argparse.Namespace) -> int:
    with connect(options) as client:
        classes = client.classes()
    headers = ["label", "state", "since", "pending", "exemplars", "hold-out"]
    rows = [(c.label, c.state, c.since_version or None, c.pending, c.exemplars, c.holdout) for c in classes]
    print(output.to_json(classes) if options.json else output.table(headers, rows))
    return exits.OK


def _held(options: argparse.Namespace) -> int:
    with connect(options) as client:
        held = client.held()
    rows = [(one.label, one.pending, one.attempts, one.reason) for one in held]
    print(output.to_json(held) if options.json else output.table(["label", "pending", "attempts", "reason"], rows))
    return exits.OK


def _versions(options: argparse.Namespace) -> int:
    with connect(options) as client:
        versions = client.versions()
    headers = [
        "version",
        "state",
        "",
        "classes",
        "new",
        "all",
        "old",
        "new acc.",
        "forgetting",
        "step",
        "created",
        "reason",
    ]
    rows = [
        (
            one.version,
            one.state,
            ("pinned" if one.pinned else "live") if one.active else "",
            len(one.labels),
            len(one.new_labels),
            output.percent(one.accuracy.all),
            output.percent(one.accuracy.old),
            output.percent(one.accuracy.new),
            output.percent(one.accuracy.forgetting),
            f"{one.step_seconds:.1f} s",
            output.local_time(one.created_ms),
            one.reason,
        )
        for one in versions
    ]
    print(output.to_json(versions) if options.json else output.table(headers, rows))
    return exits.OK
