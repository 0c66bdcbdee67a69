"""`accrete demo` and `accrete bench` on the command line."""

from __future__ import annotations

from typing import Any

Subparsers = Any


def add_demo(subparsers: Subparsers) -> None:
    """Add `accrete demo`."""
    from accrete_experiments.demo.arguments import add_arguments

    add_arguments(subparsers)


def add_bench(subparsers: Subparsers) -> None:
    """Add `accrete bench`."""
    from accrete_experiments.bench.arguments import add_arguments

    add_arguments(subparsers)
