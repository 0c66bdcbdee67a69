"""The commands that change something, such as `accrete activate`, `pause` and `forget`."""

from __future__ import annotations

from typing import Annotated

import typer

from .._results import Activation
from .confirm import Yes, confirm
from .connection import Connection
from .options import Ids, Output, read_ids

Version = Annotated[int, typer.Argument(help="See `accrete versions`.")]


def activate(version: Version, connection: Connection, output: Output) -> None:
    """Make a version live and pin it: steps go on, but newer versions wait for `accrete unpin`.

    Example:
        accrete activate 3
    """
    with connection.client() as client:
        _show_activation(output, client.activate(version))


def unpin(connection: Connection, output: Output) -> None:
    """Make the newest ready version live, and later ones as they come.

    Example:
        accrete unpin
    """
    with connection.client() as client:
        _show_activation(output, client.unpin())


def _show_activation(output: Output, activation: Activation) -> None:
    pinned = ", pinned" if activation.pinned else ""
    output.show(activation, f"version {activation.version} is live{pinned}")


def discard(version: Version, connection: Connection, output: Output, yes: Yes = False) -> None:
    """Give up a version whose files are damaged, when they cannot be brought back (from a backup, say).

    If it is the newest, steps go on from the one before it, and classes that this one does not know are learned again
    from their exemplars. This cannot be undone.

    Example:
        accrete discard 12 --yes
    """
    confirm(f"Version {version} is given up for good, and what only it knows is learned again", yes=yes)
    with connection.client() as client:
        discarded = client.discard(version)
    again = f"; to be learned again: {', '.join(discarded.relearned)}" if discarded.relearned else ""
    base = f"version {discarded.base}" if discarded.base else "nothing"
    output.show(discarded, f"version {version} is given up, steps start from {base}{again}")


def pause(connection: Connection, output: Output) -> None:
    """Start no step until `accrete resume`; one that runs is finished. Examples are still stored.

    Example:
        accrete pause
    """
    with connection.client() as client:
        client.pause()
    output.show({"paused": True}, "paused")


def resume(connection: Connection, output: Output) -> None:
    """Let steps start again.

    Example:
        accrete resume
    """
    with connection.client() as client:
        client.resume()
    output.show({"paused": False}, "resumed")


Deep = Annotated[bool, typer.Option("--deep", help="Train the backbone on what is learned, which takes minutes.")]


def trigger(connection: Connection, output: Output, deep: Deep = False) -> None:
    """Start a step with what is pending, whatever the trigger's settings say.

    With --deep, the backbone is trained meanwhile, and used if that makes it better; `accrete status` says how far it
    is.

    Example:
        accrete trigger && accrete watch
    """
    with connection.client() as client:
        pending = client.trigger_step(deep=deep)
    deep_text = "a deep step starts; accrete status says how far it is"
    output.show({"pending": pending}, deep_text if deep else f"a step starts with {pending} pending examples")


def retry(label: str, connection: Connection, output: Output) -> None:
    """Let the pending examples of a label in quarantine (see `accrete quarantine`) start steps again.

    Example:
        accrete retry heron
    """
    with connection.client() as client:
        pending = client.retry_held(label)
    output.show({"pending": pending}, f"{pending} pending examples of {label} may start a step")


def approve(label: str, connection: Connection, output: Output) -> None:
    """Let a new label be learned.

    Where the server asks for approval, each new label waits for this (see `accrete quarantine`); `accrete drop`
    removes its examples instead.

    Example:
        accrete approve heron
    """
    with connection.client() as client:
        pending = client.approve(label)
    output.show({"pending": pending}, f"{label} is approved, with {pending} pending examples")


def drop(label: str, connection: Connection, output: Output, yes: Yes = False) -> None:
    """Remove the pending examples of a label in quarantine (see `accrete quarantine`).

    What is learned of it stays, and the examples may be sent again.

    Example:
        accrete drop heron
    """
    with connection.client() as client:
        if not yes:
            found = next((one.pending for one in client.held() if one.label == label), None)
            if found is not None:  # else the server says that it is not in quarantine
                confirm(f"{found} pending examples of {label} are removed", yes=yes)
        dropped = client.drop_held(label)
    output.show({"dropped": dropped}, f"dropped {dropped} examples of {label}")


def forget(label: str, connection: Connection, output: Output, yes: Yes = False) -> None:
    """Remove a class: its examples and its predictions at once, its share of the weights with the next step.

    This cannot be undone, so it says what is removed, and asks.

    Example:
        accrete forget heron
    """
    with connection.client() as client:
        if not yes:
            found = next((one for one in client.classes() if one.label == label), None)
            kept = "all that is kept of it"
            if found is not None:
                kept = (
                    f"{found.pending} pending examples, {found.exemplars} exemplars and {found.holdout} of the hold-out"
                )
            confirm(f"{label} is not answered any more, and {kept} are removed for good", yes=yes)
        report = client.forget_class(label)
    kept = f"{report.pending} pending, {report.exemplars} exemplars, {report.holdout} hold-out"
    output.show(report, f"forgot {label}: {kept}")


def delete(ids: Ids, connection: Connection, output: Output, yes: Yes = False) -> None:
    """Remove examples from wherever they are kept: pending, exemplars, hold-out. This cannot be undone, so it asks.

    Example:
        accrete delete 5f3a 77c1 --yes
    """
    given = read_ids(ids)
    confirm(f"{len(given)} examples are removed for good, from wherever they are kept", yes=yes)
    with connection.client() as client:
        report = client.delete_examples(given)
    output.show(report, f"{report.deleted} deleted, {len(report.unknown)} unknown")
