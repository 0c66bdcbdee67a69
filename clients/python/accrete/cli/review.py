"""`accrete review` shows what was set aside rather than learned, and decides what becomes of it."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

import typer

from .confirm import Yes, confirm
from .connection import Connection
from .options import Output
from .output import table

Reason = Literal["contradiction", "duplicates", "burst", "share"]


def review(
    connection: Connection,
    output: Output,
    action: Annotated[
        Literal["list", "release", "drop"], typer.Argument(metavar="ACTION", help="list, release or drop.")
    ] = "list",
    label: Annotated[str | None, typer.Argument(metavar="LABEL", help="Of this label alone.")] = None,
    principal: Annotated[str | None, typer.Option(metavar="NAME", help="Taught by this principal alone.")] = None,
    reason: Annotated[
        Reason | None,
        typer.Option(metavar="REASON", help=f"Set aside for this reason alone: {', '.join(get_args(Reason))}."),
    ] = None,
    yes: Yes = False,
) -> None:
    """List the examples that were set aside rather than learned, by label, principal and reason.

    The reasons are: the live model is sure of another label (contradiction), nearly the same image many times
    (duplicates), many of one principal within a minute (burst), more than a principal's part of the class (share).

    `release` has them learned after all, `drop` removes them: those that fit all that is given.

    Example:
        accrete review drop heron --principal shop-app --reason duplicates --yes
    """
    with connection.client() as client:
        if action == "release":
            released = client.release_review(label, principal=principal, reason=reason)
            output.show({"released": released}, f"released {released} examples")
            return
        if action == "drop":
            chosen = ", ".join(filter(None, (label, principal, reason))) or "nothing, which is refused"
            confirm(f"What is set aside for review is removed for good; chosen by: {chosen}", yes=yes)
            dropped = client.drop_review(label, principal=principal, reason=reason)
            output.show({"dropped": dropped}, f"dropped {dropped} examples")
            return
        groups = client.review()
    given = {"label": label, "principal": principal, "reason": reason}
    wanted = {name: value for name, value in given.items() if value is not None}
    groups = [group for group in groups if all(getattr(group, name) == value for name, value in wanted.items())]
    rows = [(one.label, one.principal or None, one.reason, one.examples, one.bytes, one.ids[0]) for one in groups]
    output.show(groups, table(["label", "principal", "reason", "examples", "bytes", "first"], rows))
