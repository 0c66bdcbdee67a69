"""The command line `accrete`, which comes with the `cli` extra.

Commands that talk to a server are in this package. `up`, `serve`, `learn` and others come with the `server` extra and
are found through entry points (see `app`).
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence

USAGE = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the arguments; None: those of the process.

    Returns:
        The exit status (see `exits`).
    """
    try:
        from .app import build
    except ModuleNotFoundError as error:
        if error.name != "typer":
            raise
        print('accrete: the command line needs an extra: pip install "accrete[cli]"', file=sys.stderr)
        return USAGE
    for stream in (sys.stdout, sys.stderr):
        _accept_all_text(stream)
    try:
        build().main(sys.argv[1:] if argv is None else list(argv), prog_name="accrete")
    except SystemExit as end:  # how Typer ends, well or not
        return end.code if isinstance(end.code, int) else USAGE
    return 0


def _accept_all_text(stream: object) -> None:
    """Have a stream write what its encoding lacks as escapes: a label must not end a command that has stored it."""
    if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
        stream.reconfigure(errors="backslashreplace")


__all__ = ["main"]
