"""The whole command line as one parser."""

from __future__ import annotations

import argparse
import importlib.metadata
from collections.abc import Sequence

from . import control, exits, node, predict, review, state, teach, watch

_ADD = (
    predict.add_predict,
    teach.add_add,
    teach.add_wait,
    watch.add_watch,
    state.add_status,
    state.add_classes,
    state.add_versions,
    state.add_held,
    control.add_activate,
    control.add_unpin,
    control.add_discard,
    control.add_pause,
    control.add_resume,
    control.add_trigger,
    control.add_retry,
    control.add_approve,
    control.add_drop,
    review.add_review,
    control.add_forget,
    control.add_delete,
)

_DESCRIPTION = """\
Accrete serves an image classifier that learns new classes while it serves.

  accrete up                     start it on this machine
  accrete add photos/ --wait     teach it: one folder for each label
  accrete predict photo.jpg      ask it
"""


def build(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """The parser for these arguments: a command of the `server` extra is loaded only when they begin with it."""
    parser = argparse.ArgumentParser(
        prog="accrete",
        description=_DESCRIPTION,
        epilog=exits.EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, help="print the release and exit")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in _ADD:
        add(subparsers)
    node.add_commands(subparsers, arguments[0] if arguments and not arguments[0].startswith("-") else "")
    return parser


class _Version(argparse.Action):
    """Looks the release up only when asked: reading metadata takes longer than building the parser."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, default=argparse.SUPPRESS, help=help)

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        print(f"accrete {importlib.metadata.version('accrete')}")
        parser.exit()
