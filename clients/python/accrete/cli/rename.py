"""`accrete rename` and `accrete merge`, which say what a class has before they change it."""

from __future__ import annotations

from typing import Annotated

import typer

from .._client import Client
from .confirm import Yes, confirm
from .connection import Connection
from .options import Output


def rename(
    label: Annotated[str, typer.Argument(metavar="OLD", help="See `accrete classes`.")],
    new_label: Annotated[str, typer.Argument(metavar="NEW", help="A label that is no class's.")],
    connection: Connection,
    output: Output,
    yes: Yes = False,
) -> None:
    """Give a class another label: in answers, lists and all versions at once, without a step.

    Examples that were sent stay known. The old label may be taught again, as another class. It says what is renamed,
    and asks.

    Example:
        accrete rename heron "grey heron"
    """
    with connection.client() as client:
        if not yes:
            cost = f"{label} is {new_label} from now on in every answer, list and version, with {_kept(client, label)}"
            confirm(cost, yes=yes)
        examples = client.rename_class(label, new_label)
    output.show({"examples": examples}, f"{label} is {new_label} now, with {examples} examples")


def merge(
    label: Annotated[str, typer.Argument(metavar="LABEL", help="The class that is none of its own any more.")],
    into: Annotated[str, typer.Argument(metavar="INTO", help="The class that it becomes part of.")],
    connection: Connection,
    output: Output,
    yes: Yes = False,
) -> None:
    """Make a class part of another one, whose examples its own are from then on.

    Both are answered as one at once, and the next step learns them as one. This cannot be undone, so it says what is
    merged, and asks.

    Example:
        accrete merge "heron, grey" heron
    """
    with connection.client() as client:
        if not yes:
            confirm(f"{label} becomes part of {into} for good, with {_kept(client, label)}", yes=yes)
        examples = client.merge_classes(label, into)
    output.show({"examples": examples}, f"{label} is part of {into} now, with {examples} examples")


def _kept(client: Client, label: str) -> str:
    """Return what is kept of a class, for people."""
    found = next((one for one in client.classes() if one.label == label), None)
    if found is None:  # the server says that there is no such class
        return "all that is kept of it"
    return f"{found.pending} pending examples, {found.exemplars} exemplars and {found.holdout} of the hold-out"
