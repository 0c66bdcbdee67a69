"""The command `accrete page`, found by its entry point as those of `accrete_node.commands` are."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from accrete._config import ADDRESS_VARIABLE, DEFAULT_ADDRESS
from accrete_kit.addresses import is_loopback
from accrete_kit.plain import plain

if TYPE_CHECKING:
    from accrete_page.serving import PageSettings

CANNOT_START = 2


@dataclass(frozen=True, kw_only=True)
class PageFlags:
    """Where the page listens, and which server it is of."""

    address: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help=f"The server. [default: ${ADDRESS_VARIABLE}, else {DEFAULT_ADDRESS}]"),
    ] = None
    tls: Annotated[bool, typer.Option("--tls", help="Encrypt what goes to the server, and check its certificate.")] = (
        False
    )
    ca: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Certificates (PEM) that the server's must lead to; implies --tls."),
    ] = None
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Address to listen on.")] = "127.0.0.1"
    port: Annotated[int, typer.Option(metavar="PORT", min=0, max=65535, help="Port to listen on; 0: any free one.")] = (
        8080
    )
    name: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A name under which browsers may ask for the page; may be repeated."),
    ] = None
    certificate: Annotated[
        str, typer.Option(metavar="FILE", help="The page's own certificate chain (PEM), with --private-key.")
    ] = ""
    private_key: Annotated[str, typer.Option(metavar="FILE", help="The key of --certificate (PEM).")] = ""
    insecure: Annotated[
        bool,
        typer.Option("--insecure", help="Listen on other addresses than this machine's own without encryption."),
    ] = False

    def settings(self) -> PageSettings:
        """Return the settings that the flags ask for.

        Raises:
            ValueError: they would let others read along by oversight, or do not fit together.
            InvalidInput: the server's address or certificates cannot be used.
        """
        from accrete import AsyncClient, TlsConfig
        from accrete_page.serving import PageSettings
        from accrete_page.target import Target

        if bool(self.certificate) != bool(self.private_key):
            raise ValueError("--certificate and --private-key belong together: give both or neither")
        if not (is_loopback(self.host) or self.certificate or self.insecure):
            raise ValueError(
                f"--host {self.host}: others than this machine can reach it, and nothing is encrypted; give "
                "--certificate and --private-key, or --insecure where the network sees to it"
            )
        address = self.address or os.environ.get(ADDRESS_VARIABLE) or DEFAULT_ADDRESS
        target = Target(address=address, tls=TlsConfig(root_certificates=self.ca) if self.ca else self.tls)
        AsyncClient(target.address, tls=target.tls, token="")  # what cannot be used is told now
        return PageSettings(
            where=lambda: target,
            host=self.host,
            port=self.port,
            hosts=tuple(self.name or ()),
            certificate=self.certificate,
            private_key=self.private_key,
            started=lambda page: print(f"the page of {address} is at {page}", flush=True),
        )


def page(flags: PageFlags) -> int:
    """Serve the page of a server that runs already, here or elsewhere.

    Who opens it sees and does what their own token allows; where the server asks for none, everything. `accrete up`
    serves one by itself. Exit status: 0 ended as told, 2 it cannot start.

    Example:
        accrete page --address accrete.example:50051 --tls
    """
    from accrete import InvalidInput
    from accrete_page.serving import serve

    try:
        serve(flags.settings())
    except (OSError, InvalidInput, ValueError) as error:
        print(f"accrete: {plain(error)}", file=sys.stderr)
        return CANNOT_START
    return 0
