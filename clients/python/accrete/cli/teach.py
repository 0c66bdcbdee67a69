"""`accrete add` and `accrete wait`."""

from __future__ import annotations

import argparse
import pathlib
import sys

from .._client import Client
from .._errors import NotLearned
from .._inputs import Example
from .._prepared import BATCH_SIZE
from .._results import AddReport
from . import exits, output
from .connection import Subparsers, add_command, connect, seconds
from .ids import add_ids, read_ids

_SHOWN = 20  # refused examples that are listed for people; JSON has all
_DEFAULT_WAIT_S = 600.0
_WHY = "`accrete held` lists what is set aside after failed or rejected steps"


def add_add(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    command = add_command(
        subparsers,
        "add",
        summary="teach labelled images",
        description=(
            "Stores labelled images, from which the server learns in the background: a tree with one folder for\n"
            "each label, or files with --label. JPEG, PNG, WebP, BMP and .npy files count; others in a tree are left\n"
            "out. Adding the same again stores nothing twice. Exit status 1 when any image was refused; the others\n"
            "are stored all the same."
        ),
        example="accrete add photos/ --wait\n  accrete add --label heron heron-*.jpg",
    )
    command.add_argument("paths", nargs="+", metavar="PATH", type=pathlib.Path, help="folders; with --label, files")
    command.add_argument("--label", help="the label of all files")
    command.add_argument("--batch-size", type=int, default=BATCH_SIZE, metavar="N", help=f"default: {BATCH_SIZE}")
    command.add_argument(
        "--wait",
        nargs="?",
        type=_wait_seconds,
        const=_DEFAULT_WAIT_S,
        metavar="SECONDS",
        help=f"return when all of it is in the live version (at most this long; default: {_DEFAULT_WAIT_S:g})",
    )
    command.set_defaults(run=_add)


def _wait_seconds(text: str) -> float:
    try:
        return seconds(text)
    except argparse.ArgumentTypeError as problem:  # as in `accrete add --wait photos/`
        raise argparse.ArgumentTypeError(f"{problem}; without a number it comes after the paths") from problem


def add_wait(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    command = add_command(
        subparsers,
        "wait",
        summary="wait until examples are learned",
        description=(
            "Returns when the examples with these ids are in the live version; exit status 1 when they are not in\n"
            "time, which --timeout says."
        ),
        example="accrete add photos/ --json | jq -r '.ids[]' | accrete wait - --timeout 600",
    )
    add_ids(command)
    command.set_defaults(run=_wait)


def _add(options: argparse.Namespace) -> int:
    with connect(options) as client:
        report = _report(client, options)
        if not options.json:
            print(_text(report), flush=True)
        version = None
        try:
            if options.wait and report.ids:
                _tell_of_waiting(options.wait)
                version = client.wait_learned(report.ids, options.wait)
        except NotLearned as problem:
            problem.details += f"; {_WHY}"
            raise
        finally:
            if options.json:  # also when the wait is in vain: the ids are in it
                print(output.to_json({**output.plain(report), "version": version}))
    if version is not None and not options.json:
        print(f"learned in version {version}")
    return exits.FAILED if report.refused else exits.OK


def _tell_of_waiting(seconds: float) -> None:
    if sys.stderr.isatty():
        text = f"waiting until it is learned, {seconds:g} s at most; Ctrl-C ends the waiting, not the learning"
        print(text, file=sys.stderr)


def _report(client: Client, options: argparse.Namespace) -> AddReport:
    if options.label is not None:
        examples = [Example(options.label, path) for path in options.paths]
        return client.add_examples(examples, batch_size=options.batch_size)
    reports = [client.add_folder(path, batch_size=options.batch_size) for path in options.paths]
    return AddReport(
        stored=sum(one.stored for one in reports),
        duplicates=sum(one.duplicates for one in reports),
        refused=[refused for one in reports for refused in one.refused],
        ids=[id for one in reports for id in one.ids],
    )


def _text(report: AddReport) -> str:
    lines = [f"{report.stored} stored, {report.duplicates} stored before, {len(report.refused)} refused"]
    lines += [f"  {one.source or one.index} ({one.label}): {one.reason}" for one in report.refused[:_SHOWN]]
    if len(report.refused) > _SHOWN:
        lines.append(f"  and {len(report.refused) - _SHOWN} more; --json lists all")
    return "\n".join(lines)


def _wait(options: argparse.Namespace) -> int:
    ids = read_ids(options.ids)
    with connect(options) as client:
        try:
            version, waiting = client.wait_learned(ids, options.timeout), list[str]()
        except NotLearned as problem:
            version, waiting = problem.version, list(problem.waiting)
    if options.json:
        print(output.to_json({"learned": not waiting, "version": version, "waiting": waiting}))
    elif waiting:
        print(f"{len(waiting)} of {len(ids)} are not in version {version} yet; {_WHY}")
    else:
        print(f"learned in version {version}")
    return exits.FAILED if waiting else exits.OK
