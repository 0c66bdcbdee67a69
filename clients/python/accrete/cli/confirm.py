"""Asking before something is removed that nothing brings back."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from . import exits

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def confirm(cost: str, *, yes: bool) -> None:
    """Say what a command costs, and ask whether to go on.

    Args:
        cost: what is removed, as a sentence without its stop.
        yes: go on without asking.

    Raises:
        UsageError: there is nobody to ask.
        typer.Exit: the answer is no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise exits.UsageError(f"{cost}. Nothing was done: there is nobody to ask, and --yes is not given")
    print(f"{cost}.", file=sys.stderr)
    if not typer.confirm("Go on?", default=False, err=True):
        print("nothing was done", file=sys.stderr)
        raise typer.Exit(exits.FAILED)
