"""The options that every command with a server has, and the client they make."""

from __future__ import annotations

import argparse

from .._client import Client
from .._config import ADDRESS_VARIABLE, DEFAULT_ADDRESS, DEFAULT_TIMEOUT_S, TlsConfig
from .._errors import InvalidInput
from .exits import UsageError

Subparsers = argparse._SubParsersAction  # what `add_subparsers` returns; argparse gives it no public name


def add_command(
    subparsers: Subparsers[argparse.ArgumentParser],
    name: str,
    *,
    summary: str,
    description: str,
    example: str,
    json: str = "print JSON",
) -> argparse.ArgumentParser:
    """A command with the common options. `json`: the help of --json; empty: it has none."""
    command = subparsers.add_parser(
        name,
        help=summary,
        description=description,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    group = command.add_argument_group("connection")
    group.add_argument(
        "--address",
        metavar="HOST:PORT",
        help=f"the server, or several IP:PORT with commas (default: ${ADDRESS_VARIABLE}, else {DEFAULT_ADDRESS})",
    )
    group.add_argument(
        "--timeout",
        type=seconds,
        default=DEFAULT_TIMEOUT_S,
        metavar="SECONDS",
        help=f"for each call, retries included (default: {DEFAULT_TIMEOUT_S:g})",
    )
    group.add_argument("--tls", action="store_true", help="encrypt, and check the server's certificate")
    group.add_argument("--ca", metavar="FILE", help="certificates (PEM) that the server's must lead to; implies --tls")
    if json:
        command.add_argument("--json", action="store_true", help=json)
    return command


def connect(options: argparse.Namespace) -> Client:
    """The client that the options ask for. Raises UsageError."""
    try:
        tls = TlsConfig(root_certificates=options.ca) if options.ca else options.tls
        return Client(options.address, timeout=options.timeout, tls=tls)
    except InvalidInput as problem:
        raise UsageError(problem.details) from problem


def seconds(text: str) -> float:
    """An argument that is a positive number of seconds."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: a positive number of seconds is allowed")
    return value
