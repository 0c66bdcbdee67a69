"""The options that every command with a server has, and the client they make."""

from __future__ import annotations

import pathlib
import random
import sys
from dataclasses import dataclass
from typing import Annotated

import typer

from .._client import Client
from .._config import (
    ADDRESS_VARIABLE,
    DEFAULT_ADDRESS,
    DEFAULT_TIMEOUT_S,
    NODE_VARIABLE,
    TOKEN_VARIABLE,
    Retry,
    TlsConfig,
)
from .._errors import AccreteError, InvalidInput
from .exits import UsageError

_FIRST_S = 0.5
"""Seconds that are tried while nothing listens. A person wants to know; what is longer than that is no restart."""
_TOLD_AT = 6
"""Failed attempts in a row, about two seconds' worth, before a person is told of an outage that may pass."""
_PANEL = "Connection"


@dataclass(frozen=True, kw_only=True)
class Connection:
    """How a command reaches its server."""

    address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help=f"The server, or several IP:PORT with commas. [default: ${ADDRESS_VARIABLE}, else {DEFAULT_ADDRESS}]",
            rich_help_panel=_PANEL,
        ),
    ] = None
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="For each call, retries included.", rich_help_panel=_PANEL)
    ] = DEFAULT_TIMEOUT_S
    tls: Annotated[
        bool, typer.Option("--tls", help="Encrypt, and check the server's certificate.", rich_help_panel=_PANEL)
    ] = False
    ca: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Certificates (PEM) that the server's must lead to; implies --tls.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    cert: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="This caller's own certificate chain (PEM), with --key.", rich_help_panel=_PANEL
        ),
    ] = None
    key: Annotated[
        str | None, typer.Option(metavar="FILE", help="The key of --cert (PEM).", rich_help_panel=_PANEL)
    ] = None
    token_file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help=f"File that holds the token. [default: ${TOKEN_VARIABLE}]", rich_help_panel=_PANEL
        ),
    ] = None
    node: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help=f"Refuse to talk to another node than this; `accrete status` tells names. [default: ${NODE_VARIABLE}]",
            rich_help_panel=_PANEL,
        ),
    ] = None

    def client(self, *, spread: bool = False) -> Client:
        """Return the client that the options ask for. Raises UsageError.

        Args:
            spread: whether calls may go to the server's fellows as well: for a command that makes many.
        """
        tls: bool | TlsConfig = self.tls
        if self.ca or self.cert or self.key:
            tls = TlsConfig(root_certificates=self.ca, certificate=self.cert, private_key=self.key)
        try:
            return Client(
                self.address,
                timeout=self.timeout,
                retry=_Telling(first_s=_FIRST_S),
                tls=tls,
                token=_token(self.token_file),
                node=self.node,
                spread=spread,
            )
        except InvalidInput as error:
            raise UsageError(error.details) from error


@dataclass(frozen=True, kw_only=True)
class _Telling(Retry):
    """Tells whoever sits before a terminal why nothing happens."""

    def pause_s(self, error: AccreteError, attempt: int, generator: random.Random) -> float | None:
        seconds = super().pause_s(error, attempt, generator)
        if seconds is not None and attempt == _TOLD_AT and sys.stderr.isatty():
            print(f"accrete: {error}; trying again, for as long as --timeout says", file=sys.stderr)
        return seconds


def _token(path: str | None) -> str | None:
    """Read it from a file: the command line can be read by every user of the machine."""
    if path is None:
        return None
    try:
        token = pathlib.Path(path).read_text("utf-8-sig").strip()
    except OSError as error:
        raise UsageError(f"--token-file {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"--token-file {path}: no text: {error}") from error
    if not token:
        raise UsageError(f"--token-file {path}: it is empty; the token that `accrete token` printed is expected in it")
    return token
