"""The command line `accrete`.

Commands that talk to a server are here; `up`, `serve`, `learn` and `demo` come with the `server` extra and are found
through entry points (see `node`).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from . import exits, parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status (see `exits`). `argv` None: the process's arguments."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    built = parser.build(arguments)
    if not arguments:  # a newcomer's first try
        built.print_help(sys.stderr)
        return exits.USAGE
    try:
        options = built.parse_args(arguments)
    except SystemExit as end:  # argparse has printed its help or what is wrong
        return end.code if isinstance(end.code, int) else exits.USAGE
    return exits.guarded(options.run, options)


__all__ = ["main"]
