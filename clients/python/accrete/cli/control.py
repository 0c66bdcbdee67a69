"""`accrete activate`, `pause`, `trigger`, `retry`, `forget` and their like: changing something."""

from __future__ import annotations

import argparse

from .._results import Activation
from . import exits, output
from .connection import Subparsers, add_command, connect
from .ids import add_ids, read_ids


def add_activate(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    command = add_command(
        subparsers,
        "activate",
        summary="bring a version back and pin it",
        description="Makes a version live and pins it: steps go on, but newer versions wait for `accrete unpin`.",
        example="accrete activate 3",
    )
    command.add_argument("version", type=int, help="see `accrete versions`")
    command.set_defaults(run=_activate)


def add_unpin(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    add_command(
        subparsers,
        "unpin",
        summary="let the newest version go live again",
        description="Makes the newest ready version live, and later ones as they come.",
        example="accrete unpin",
    ).set_defaults(run=_unpin)


def add_discard(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    command = add_command(
        subparsers,
        "discard",
        summary="give up a version whose files are damaged for good",
        description=(
            "Gives up a version whose files are damaged, when they cannot be brought back (from a backup, say). If it\n"
            "is the newest, steps go on from the one before it, and classes that this one does not know are learned\n"
            "again from their exemplars. This cannot be undone."
        ),
        example="accrete discard 12",
    )
    command.add_argument("version", type=int, help="see `accrete versions`")
    command.set_defaults(run=_discard)


def add_pause(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    add_command(
        subparsers,
        "pause",
        summary="start no more steps",
        description="No step starts until `accrete resume`; one that runs is finished. Examples are still stored.",
        example="accrete pause",
    ).set_defaults(run=_pause)


def add_resume(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    add_command(
        subparsers,
        "resume",
        summary="end a pause",
        description="Lets steps start again.",
        example="accrete resume",
    ).set_defaults(run=_resume)


def add_trigger(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    add_command(
        subparsers,
        "trigger",
        summary="start a step now",
        description="Starts a step with what is pending, whatever the trigger's settings say.",
        example="accrete trigger && accrete watch",
    ).set_defaults(run=_trigger)


def add_retry(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    command = add_command(
        subparsers,
        "retry",
        summary="learn a label that is set aside after all",
        description="Lets the pending examples of a label that is set aside (see `accrete held`) start steps again.",
        example="accrete retry heron",
    )
    command.add_argument("label")
    command.set_defaults(run=_retry)


def add_approve(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    command = add_command(
        subparsers,
        "approve",
        summary="learn a new label that waits for approval",
        description=(
            "Lets a new label be learned. Where the server asks for approval, each waits for this (see\n"
            "`accrete held`); `accrete drop` removes its examples instead."
        ),
        example="accrete approve heron",
    )
    command.add_argument("label")
    command.set_defaults(run=_approve)


def add_drop(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    command = add_command(
        subparsers,
        "drop",
        summary="remove the pending examples of a label that is set aside",
        description=(
            "Removes the pending examples of a label that is set aside (see `accrete held`). What is learned of it\n"
            "stays, and the examples may be sent again."
        ),
        example="accrete drop heron",
    )
    command.add_argument("label")
    command.set_defaults(run=_drop)


def add_forget(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    command = add_command(
        subparsers,
        "forget",
        summary="remove a class",
        description=(
            "Removes a class: its examples and its answers at once, its share of the weights with the next step.\n"
            "This cannot be undone."
        ),
        example="accrete forget heron",
    )
    command.add_argument("label")
    command.set_defaults(run=_forget)


def add_delete(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    command = add_command(
        subparsers,
        "delete",
        summary="remove examples by id",
        description="Removes examples from wherever they are kept: pending, exemplars, hold-out. It cannot be undone.",
        example="accrete delete 5f3a 77c1",
    )
    add_ids(command)
    command.set_defaults(run=_delete)


def _activate(options: argparse.Namespace) -> int:
    with connect(options) as client:
        return _activated(options, client.activate(options.version))


def _unpin(options: argparse.Namespace) -> int:
    with connect(options) as client:
        return _activated(options, client.unpin())


def _activated(options: argparse.Namespace, activation: Activation) -> int:
    pinned = ", pinned" if activation.pinned else ""
    return _done(options, activation, f"version {activation.version} is live{pinned}")


def _discard(options: argparse.Namespace) -> int:
    with connect(options) as client:
        discarded = client.discard(options.version)
    again = f"; to be learned again: {', '.join(discarded.relearned)}" if discarded.relearned else ""
    base = f"version {discarded.base}" if discarded.base else "nothing"
    return _done(options, discarded, f"version {options.version} is given up, steps start from {base}{again}")


def _pause(options: argparse.Namespace) -> int:
    with connect(options) as client:
        client.pause()
    return _done(options, {"paused": True}, "paused")


def _resume(options: argparse.Namespace) -> int:
    with connect(options) as client:
        client.resume()
    return _done(options, {"paused": False}, "resumed")


def _trigger(options: argparse.Namespace) -> int:
    with connect(options) as client:
        pending = client.trigger_step()
    return _done(options, {"pending": pending}, f"a step starts with {pending} pending examples")


def _retry(options: argparse.Namespace) -> int:
    with connect(options) as client:
        pending = client.retry_held(options.label)
    return _done(options, {"pending": pending}, f"{pending} pending examples of {options.label} may start a step")


def _approve(options: argparse.Namespace) -> int:
    with connect(options) as client:
        pending = client.approve(options.label)
    return _done(options, {"pending": pending}, f"{options.label} is approved, with {pending} pending examples")


def _drop(options: argparse.Namespace) -> int:
    with connect(options) as client:
        dropped = client.drop_held(options.label)
    return _done(options, {"dropped": dropped}, f"dropped {dropped} examples of {options.label}")


def _forget(options: argparse.Namespace) -> int:
    with connect(options) as client:
        report = client.forget_class(options.label)
    kept = f"{report.pending} pending, {report.exemplars} exemplars, {report.holdout} hold-out"
    return _done(options, report, f"forgot {options.label}: {kept}")


def _delete(options: argparse.Namespace) -> int:
    with connect(options) as client:
        report = client.delete_examples(read_ids(options.ids))
    return _done(options, report, f"{report.deleted} deleted, {len(report.unknown)} unknown")


def _done(options: argparse.Namespace, value: object, text: str) -> int:
    print(output.to_json(value) if options.json else text)
    return exits.OK
