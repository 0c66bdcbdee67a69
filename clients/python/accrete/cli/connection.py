"""The options that every command with a server has, and the client they make."""

from __future__ import annotations

import argparse
import pathlib
import random
import sys
from dataclasses import dataclass

from .._client import Client
from .._config import ADDRESS_VARIABLE, DEFAULT_ADDRESS, DEFAULT_TIMEOUT_S, TOKEN_VARIABLE, Retry, TlsConfig
from .._errors import AccreteError, InvalidInput
from .exits import UsageError

_TOLD_AT = 3
"""Failed attempts in a row before a person is told: what is over within half a second is not worth a line."""

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
    group.add_argument("--cert", metavar="FILE", help="this caller's own certificate chain (PEM), with --key")
    group.add_argument("--key", metavar="FILE", help="the key of --cert (PEM)")
    group.add_argument("--token-file", metavar="FILE", help=f"file that holds the token (default: ${TOKEN_VARIABLE})")
    if json:
        command.add_argument("--json", action="store_true", help=json)
    return command


def connect(options: argparse.Namespace) -> Client:
    """The client that the options ask for. Raises UsageError."""
    try:
        tls = options.tls
        if options.ca or options.cert or options.key:
            tls = TlsConfig(root_certificates=options.ca, certificate=options.cert, private_key=options.key)
        return Client(
            options.address, timeout=options.timeout, retry=_Telling(), tls=tls, token=_token(options.token_file)
        )
    except InvalidInput as problem:
        raise UsageError(problem.details) from problem


@dataclass(frozen=True, kw_only=True)
class _Telling(Retry):
    """Tells whoever sits before a terminal why nothing happens."""

    def pause_s(self, problem: AccreteError, attempt: int, generator: random.Random) -> float | None:
        seconds = super().pause_s(problem, attempt, generator)
        if seconds is not None and attempt == _TOLD_AT and sys.stderr.isatty():
            print(f"accrete: {problem}; trying again, for as long as --timeout says", file=sys.stderr)
        return seconds


def _token(path: str | None) -> str | None:
    """From a file and not from the command line, which every user of the machine can read."""
    if path is None:
        return None
    try:
        return pathlib.Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as problem:
        raise UsageError(f"--token-file {path}: {problem}") from problem


def seconds(text: str) -> float:
    """An argument that is a positive number of seconds."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: a positive number of seconds is allowed")
    return value
