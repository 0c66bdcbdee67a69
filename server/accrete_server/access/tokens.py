"""Principals and the file that lists them.

A line: `NAME ROLE,ROLE SHA256` or `NAME ROLE,ROLE certificate`; `#` begins a comment. A token has 256 random bits, so
a plain hash of it tells nobody anything, and looking a hash up leaks nothing of the token through time.
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
_LOOK_S = 1.0
"""Seconds between two looks at whether the file has changed."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Principal:
    """Who calls, and what they may do."""

    name: str
    roles: frozenset[Role]


ANYONE = Principal(name="", roles=ALL)
"""Every caller of a server that does not ask who calls."""


def new_token() -> str:
    """A token to hand out, in letters that need no quoting."""
    return secrets.token_urlsafe(32)


def hashed(token: str) -> str:
    """What the file keeps of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def line(name: str, roles: Iterable[str], token: str | None) -> str:
    """A principal's line, with a token or a certificate. Raises ValueError for a name or role that is none."""
    if not name or len(name.split()) != 1 or "#" in name:
        raise ValueError(f"name {name!r}: one without spaces and # is allowed")
    text = f"{name} {','.join(roles)} {CERTIFICATE if token is None else hashed(token)}"
    _parse(text)
    return text


def add(path: Path, text: str) -> None:
    """Add a line to the file, which is made, for its owner alone, if it is not there.

    Raises ValueError when the file as it would be cannot be used, and leaves it then as it was; OSError.
    """
    before = path.read_text() if path.exists() else ""
    if before and not before.endswith("\n"):
        before += "\n"
    after = f"{before}{text}\n"
    _parse_file(path, after)
    write_text(path, after, mode=0o600)


class TokenFile:
    """The file's principals, as it is now. Safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        """Raises ValueError when it cannot be read or has a line that makes no sense."""
        self._path = path
        self._lock = threading.Lock()
        self._stamp = _stamp(path)
        self._by_key = _read(path)
        self._looked = time.monotonic()

    def by_token(self, token: str) -> Principal | None:
        """Whose token it is."""
        return self._current().get(hashed(token))

    def by_certificate(self, name: str) -> Principal | None:
        """Who shows a certificate with this common name."""
        return self._current().get(f"{CERTIFICATE} {name}")

    def _current(self) -> dict[str, Principal]:
        if time.monotonic() - self._looked < _LOOK_S:
            return self._by_key
        with self._lock:
            self._looked = time.monotonic()
            stamp = _stamp(self._path)
            if stamp != self._stamp:
                self._stamp = stamp
                try:
                    self._by_key = _read(self._path)
                    _log.info("tokens_read", extra={"principals": len(self._by_key)})
                except ValueError as problem:
                    # Those who were let in stay so: an edit that went wrong must not take the service down.
                    _log.error("tokens_not_read", extra={"reason": str(problem)})
            return self._by_key


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _read(path: Path) -> dict[str, Principal]:
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as problem:
        raise ValueError(f"access.tokens = {str(path)!r}: it cannot be read: {problem}") from problem
    return _parse_file(path, text)


def _parse_file(path: Path, text: str) -> dict[str, Principal]:
    """By key, the principals of a file's text; `path` is for messages alone."""
    found: dict[str, Principal] = {}
    for number, content in enumerate(text.splitlines(), start=1):
        content = content.partition("#")[0].strip()
        if not content:
            continue
        try:
            key, principal = _parse(content)
            if key in found:
                raise ValueError("the same token or certificate stands twice")
        except ValueError as problem:
            raise ValueError(f"access.tokens = {str(path)!r}: line {number}: {problem}") from problem
        found[key] = principal
    return found


def _parse(content: str) -> tuple[str, Principal]:
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
