"""`accrete review`: what was set aside rather than learned, and what becomes of it."""

from __future__ import annotations

import argparse

from . import exits, output
from .connection import Subparsers, add_command, connect


def add_review(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    command = add_command(
        subparsers,
        "review",
        summary="examples set aside for review: list, release or drop them",
        description=(
            "Lists the examples that were set aside rather than learned, by label, principal and reason: the live\n"
            "model is sure of another label (contradiction), nearly the same image many times (duplicates), many of\n"
            "one principal within a minute (burst), more than a principal's part of the class (share).\n"
            "`release` has them learned after all, `drop` removes them: those that fit all that is given."
        ),
        example="accrete review drop heron --principal shop-app --reason duplicates",
    )
    command.add_argument("action", nargs="?", choices=("list", "release", "drop"), default="list")
    command.add_argument("label", nargs="?", help="of this label alone")
    command.add_argument("--principal", metavar="NAME", help="taught by this principal alone")
    command.add_argument("--reason", help="set aside for this reason alone")
    command.set_defaults(run=_review)


def _review(options: argparse.Namespace) -> int:
    if options.action == "list":
        return _list(options)
    with connect(options) as client:
        end = client.release_review if options.action == "release" else client.drop_review
        ended = end(options.label, principal=options.principal, reason=options.reason)
    done = "released" if options.action == "release" else "dropped"
    print(output.to_json({done: ended}) if options.json else f"{done} {ended} examples")
    return exits.OK


def _list(options: argparse.Namespace) -> int:
    with connect(options) as client:
        groups = client.review()
    given = {"label": options.label, "principal": options.principal, "reason": options.reason}
    wanted = {name: value for name, value in given.items() if value is not None}
    groups = [group for group in groups if all(getattr(group, name) == value for name, value in wanted.items())]
    rows = [(one.label, one.principal or None, one.reason, one.examples, one.bytes, one.ids[0]) for one in groups]
    headers = ["label", "principal", "reason", "examples", "bytes", "first"]
    print(output.to_json(groups) if options.json else output.table(headers, rows))
    return exits.OK
