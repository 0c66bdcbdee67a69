"""Settings of the page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Le, MinLen


@dataclass(frozen=True, kw_only=True)
class PageConfig:
    """The page for people, which `accrete up` serves beside the server."""

    enabled: bool = True
    """Serve it."""

    host: Annotated[str, MinLen(1)] = "127.0.0.1"
    """Address to listen on. Beyond this machine only with `access.certificate`, which then encrypts the page too, or
    with `access.insecure`."""

    port: Annotated[int, Ge(0), Le(65535)] = 8080
    """Port of the page. If it is taken, the next free one is used, which `accrete up` prints; 0: any free one."""

    hosts: tuple[str, ...] = ()
    """Names under which browsers may ask for it, beside localhost, addresses in numbers, and the names of the
    certificate that encrypts it. Others are refused, for any page on the web can have a name of its own lead here."""
