"""The address of a store: what is wrong with one, and how it is shown, with no part of a password in either."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlsplit

_ENCODED = "in a user's name and a password, write / as %2F, ? as %3F, # as %23, @ as %40, [ as %5B and % as %25"
SENTINEL = "redis+sentinel"
_ENCRYPTED_SENTINEL = "rediss+sentinel"
_SENTINELS_OWN = ("sentinel_username", "sentinel_password")
_TLS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname", "ssl_cert_reqs")
_SENTINEL_FORM = (
    "redis+sentinel://HOST:PORT,HOST:PORT/SERVICE/DATABASE is allowed; USER:PASSWORD@ before it are the store's, "
    "?sentinel_username=NAME&sentinel_password=PASSWORD behind it Sentinel's own; rediss+sentinel:// encrypts, and "
    f"takes {', '.join(_TLS)} as well"
)
_ADDRESS = re.compile(r"([\w+]+)://(?:(.*)@([^@]*)|([^@]*))", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class SentinelAddress:
    """A store whose primary Sentinel names."""

    sentinels: tuple[tuple[str, int], ...]
    service: str
    database: int
    username: str | None
    password: str | None = field(repr=False)
    """The store's own."""
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)
    """By which Sentinel is asked; None: without."""
    tls: Mapping[str, str] | None = None
    """What redis-py is told of certificates, of Sentinel's and the store's alike; None: neither is encrypted."""


def sentinels(url: str) -> SentinelAddress | None:
    """Return the parts of an address of a store that Sentinel watches; None for another kind.

    Raises:
        ValueError: it cannot be used. The message shows nothing of it.
    """
    scheme, _, rest = url.partition("://")
    if scheme not in (SENTINEL, _ENCRYPTED_SENTINEL):
        return None
    authority, _, rest = rest.partition("/")
    path, _, query = rest.partition("?")
    account, _, hosts = authority.rpartition("@")
    service, _, database = path.partition("/")
    found = [re.fullmatch(r"(\[[^\]]+\]|[^:\[\]@]+)(?::(\d{1,5}))?", host) for host in hosts.split(",")]
    encrypted = scheme == _ENCRYPTED_SENTINEL
    options = dict(parse_qsl(query, keep_blank_values=True))
    known = {*_SENTINELS_OWN, *(_TLS if encrypted else ())}
    if (
        not service
        or not re.fullmatch(r"\d*", database)
        or not all(found)
        or "@" in rest
        or not options.keys() <= known
    ):
        raise ValueError(f"{_SENTINEL_FORM}; {_ENCODED}")
    username, separator, password = account.partition(":")
    return SentinelAddress(
        sentinels=tuple((one[1].strip("[]"), int(one[2] or 26_379)) for one in found if one is not None),
        service=unquote(service),
        database=int(database or 0),
        username=unquote(username) or None,
        password=unquote(password) if separator else None,
        sentinel_username=options.get("sentinel_username") or None,
        sentinel_password=options.get("sentinel_password"),
        tls={name: value for name, value in options.items() if name in _TLS} if encrypted else None,
    )


def check(url: str) -> None:
    """Raise ValueError for an address that cannot be used, or that would be taken apart elsewhere than meant.

    The message shows nothing of it.
    """
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in ("redis", "rediss", "unix", SENTINEL, _ENCRYPTED_SENTINEL):
        raise ValueError(
            "one that begins with redis://, rediss://, unix://, redis+sentinel:// or rediss+sentinel:// is allowed"
        )
    if re.search(r"[\x00-\x1f\x7f]", url):
        raise ValueError("control characters must be written as percent codes")
    if sentinels(url) is not None:
        return
    try:
        parts = urlsplit(url)
        _ = parts.port if scheme != "unix" else None
    except ValueError:  # its own words show what it took for the port
        raise ValueError(f"host and port (1 to 65535) cannot be told apart; {_ENCODED}") from None
    if scheme == "unix":
        misplaced = bool(parts.netloc) and not parts.netloc.endswith("@")
    else:
        misplaced = "@" in parts.path + parts.query or not re.fullmatch(r"/?\d*", parts.path)
    if misplaced or parts.fragment:
        raise ValueError(f"what follows the host is no number of a database; {_ENCODED}")


def shown(text: str) -> str:
    """Return an address, or a text with one in it, as it may be shown: without user, password and query."""
    return _ADDRESS.sub(_without_secrets, text)


def socket_url(path: Path) -> str:
    """Return the address of a unix socket."""
    return f"unix://{quote(os.fsencode(path))}"


def _without_secrets(found: re.Match[str]) -> str:
    scheme, secret, host, alone = found.groups()
    if alone is not None:
        return f"{scheme}://{re.split('[?#]', alone)[0]}"
    # An @ behind a ? or # may be part of the password: then nobody knows where that ends.
    return f"{scheme}://***" if re.search("[?#]", secret) else f"{scheme}://***@{re.split('[?#]', host)[0]}"
