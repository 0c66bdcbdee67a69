"""Principals and the file that lists them.

A line is `NAME ROLE,ROLE SHA256` or `NAME ROLE,ROLE certificate`; `#` begins a comment. A token has 256 random bits, so
a plain hash of it tells nobody anything, and the time of looking a hash up reveals nothing of the token.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from accrete_kit.atomic_file import write_text
from accrete_server.access.roles import ALL, Role

CERTIFICATE = "certificate"
_CHECK_S = 1.0
"""Seconds between two checks of whether the file has changed."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Principal:
    """Who calls, and what they may do."""

    name: str
    roles: frozenset[Role]


ANYONE = Principal(name="", roles=ALL)
"""Every caller of a server that does not ask who calls."""


def new_token() -> str:
    """Return a token to hand out, in letters that need no quoting."""
    return secrets.token_urlsafe(32)


def hashed(token: str) -> str:
    """Return the SHA-256 of a token, which is what the file keeps of it."""
    return hashlib.sha256(token.encode()).hexdigest()


def line(name: str, roles: Iterable[str], token: str | None) -> str:
    """Return a principal's line for the file.

    Args:
        name: the principal.
        roles: what they may do.
        token: their token; None: they show a certificate whose common name is `name`.

    Raises:
        ValueError: the name or a role cannot be used.
    """
    if not name or len(name.split()) != 1 or "#" in name:
        raise ValueError(f"name {name!r}: one without spaces and # is allowed")
    text = f"{name} {','.join(roles)} {CERTIFICATE if token is None else hashed(token)}"
    _parse_line(text)
    return text


def add(path: Path, text: str) -> None:
    """Add a line to the file, which becomes readable for its owner alone.

    Raises:
        ValueError: the file as it would be cannot be used; it is left as it was.
        OSError: it cannot be written.
    """
    before = path.read_text("utf-8") if path.exists() else ""
    if before and not before.endswith("\n"):
        before += "\n"
    content = f"{before}{text}\n"
    _parse(content, path)
    write_text(path, content, mode=0o600)


class TokenFile:
    """The principals of the file as it is now. Thread-safe."""

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            ValueError: it cannot be read, or a line is not a principal's.
        """
        self._path = path
        self._lock = threading.Lock()
        self._stamp = _stamp(path)
        self._by_key = _read(path)
        self._checked = time.monotonic()

    def by_token(self, token: str) -> Principal | None:
        """Return whose token it is, or None."""
        return self._current().get(hashed(token))

    def by_certificate(self, name: str) -> Principal | None:
        """Return who shows a certificate with this common name, or None if it is not in the file."""
        return self._current().get(f"{CERTIFICATE} {name}")

    def _current(self) -> dict[str, Principal]:
        if time.monotonic() - self._checked < _CHECK_S:
            return self._by_key
        with self._lock:
            self._checked = time.monotonic()
            stamp = _stamp(self._path)
            if stamp != self._stamp:
                self._stamp = stamp
                try:
                    self._by_key = _read(self._path)
                    _log.info("tokens.read", extra={"principals": len(self._by_key)})
                except ValueError as error:
                    # Those who were let in stay so: an edit that went wrong must not take the service down.
                    _log.error("tokens.not_read", extra={"reason": str(error)})
            return self._by_key


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _read(path: Path) -> dict[str, Principal]:
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"access.tokens = {str(path)!r}: it cannot be read: {error}") from error
    return _parse(text, path)


def _parse(text: str, path: Path) -> dict[str, Principal]:
    """Return the principals by the hash of their token, or by what stands for their certificate."""
    found: dict[str, Principal] = {}
    for number, content in enumerate(text.splitlines(), start=1):
        content = content.partition("#")[0].strip()
        if not content:
            continue
        try:
            key, principal = _parse_line(content)
            if key in found:
                raise ValueError("the same token or certificate stands twice")
        except ValueError as error:
            raise ValueError(f"access.tokens = {str(path)!r}: line {number}: {error}") from error
        found[key] = principal
    return found


def _parse_line(content: str) -> tuple[str, Principal]:
    parts = content.split()
    if len(parts) != 3:
        raise ValueError("a name, roles with commas, and a hash (or the word certificate) are expected")
    name, listed, secret = parts
    roles = set(listed.split(","))
    if unknown := roles - ALL:
        raise ValueError(f"no such role: {', '.join(sorted(unknown))}; there are {', '.join(sorted(ALL))}")
    is_hash = len(secret) == 64 and set(secret) <= set("0123456789abcdef")
    if not is_hash and secret != CERTIFICATE:
        raise ValueError("the third part is neither a SHA-256 in lower-case hexadecimal nor the word certificate")
    key = secret if is_hash else f"{CERTIFICATE} {name}"
    return key, Principal(name=name, roles=cast(frozenset[Role], frozenset(roles)))
