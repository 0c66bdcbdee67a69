"""The address of a store: what is wrong with one, and how it is shown, with no part of a password in either."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import quote, urlsplit

_ENCODED = "in a user's name and a password, write / as %2F, ? as %3F, # as %23, @ as %40, [ as %5B and % as %25"
_ADDRESS = re.compile(r"(\w+)://(?:(.*)@([^@]*)|([^@]*))", re.DOTALL)


def check(url: str) -> None:
    """Raise ValueError for an address that cannot be used, or that would be taken apart elsewhere than meant.

    The message shows nothing of it.
    """
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in ("redis", "rediss", "unix"):
        raise ValueError("one that begins with redis://, rediss:// or unix:// is allowed")
    if re.search(r"[\x00-\x1f\x7f]", url):
        raise ValueError("control characters must be written as percent codes")
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
