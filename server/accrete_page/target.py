"""The server that a page is of."""

from __future__ import annotations

from dataclasses import dataclass

from accrete import TlsConfig


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where the server is, and how to reach it."""

    address: str
    """"host:port"."""
    tls: bool | TlsConfig = False
    """Whether and how to encrypt."""
    stamp: int = 0
    """Another one when the files of `tls` are others than before."""
