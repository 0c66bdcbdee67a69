"""Commands that come with the `server` extra: found by name through entry points, and loaded only when asked for.

An entry point of the group `accrete.commands` is a function `add_x(subparsers)` that registers the subparser `x` and
sets its default `run`, a function from the parsed options to an exit status.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import sys

from . import exits
from .connection import Subparsers

GROUP = "accrete.commands"

SUMMARIES = {
    "up": "run store, learner and server on this machine",
    "serve": "run a server alone",
    "learn": "run the learner alone",
    "demo": "watch it learn handwritten digits while it serves",
    "bench": "compare methods on streams of classes",
    "token": "let a caller in",
    "backup": "write everything into a folder, while it runs",
    "restore": "put a backup into a new data directory",
}


def add_commands(subparsers: Subparsers[argparse.ArgumentParser], wanted: str) -> None:
    """Loads `wanted` if it is one of these; the others are listed by their summary alone."""
    for name, summary in SUMMARIES.items():
        if name != wanted:
            subparsers.add_parser(name, help=summary)
    if wanted and wanted not in subparsers.choices:
        _load(subparsers, wanted)


def _load(subparsers: Subparsers[argparse.ArgumentParser], name: str) -> None:
    entries = importlib.metadata.entry_points(group=GROUP, name=name)
    try:
        for entry in entries:
            entry.load()(subparsers)
    except ImportError as problem:
        _stand_in(subparsers, name, f" ({problem})")
    else:
        if not entries and name in SUMMARIES:
            _stand_in(subparsers, name, "")


def _stand_in(subparsers: Subparsers[argparse.ArgumentParser], name: str, why: str) -> None:
    """In place of a command that cannot be loaded: takes whatever is given, and says what to install."""
    command = subparsers.add_parser(name, help=SUMMARIES.get(name), add_help=False, prefix_chars="\0")
    command.add_argument("rest", nargs=argparse.REMAINDER)

    def run(options: argparse.Namespace) -> int:
        print(f'accrete: this command needs the server: pip install "accrete[server]"{why}', file=sys.stderr)
        return exits.USAGE

    command.set_defaults(run=run)
