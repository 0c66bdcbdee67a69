"""Example ids as arguments, or from stdin where they are many."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence


def add_ids(command: argparse.ArgumentParser) -> None:
    command.add_argument("ids", nargs="+", metavar="ID", help="- reads them from stdin, one a line")


def read_ids(given: Sequence[str]) -> list[str]:
    """The ids, with each "-" replaced by what stdin holds."""
    return [found for one in given for found in (sys.stdin.read().split("\n") if one == "-" else [one]) if found]
