"""Who calls, and whether they may."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from accrete_server.access.config import AccessConfig
from accrete_server.access.roles import ROLES
from accrete_server.access.tokens import ANYONE, Principal, TokenFile
from accrete_server.errors import PermissionDenied, Unauthenticated

_SCHEME = "bearer "


class Caller(Protocol):
    """The part of grpc's ServicerContext that tells who calls."""

    def invocation_metadata(self) -> Iterable[Any]:
        """Return pairs of name and value."""
        ...

    def auth_context(self) -> Mapping[str, Any]:
        """Return what the connection's certificate says."""
        ...


class Guard:
    """The check of every caller, which denies by default.

    Without settings everybody is `ANYONE`; with them only who is listed gets in.
    """

    def __init__(self, config: AccessConfig) -> None:
        """Read the file of principals, if one is set.

        Raises:
            ValueError: it cannot be used.
        """
        self._tokens = TokenFile(Path(config.tokens)) if config.tokens else None
        self._certificates = bool(config.client_ca)
        self.asks = config.names_callers
        """Whether callers have to say who they are."""

    def admit(self, path: str, caller: Caller) -> Principal:
        """Return who calls, if they may call `path`.

        Raises:
            Unauthenticated: nobody knows who calls.
            PermissionDenied: the principal has not the role.
        """
        principal = self.caller_of(path, caller)
        self.check(principal, path)
        return principal

    def caller_of(self, path: str, caller: Caller) -> Principal:
        """Return who calls `path`, whether or not they may, or `ANYONE` where nobody is asked.

        Raises:
            Unauthenticated: nobody knows who calls.
        """
        return ANYONE if ROLES.get(path, frozenset()) is None else self._principal(caller)

    def check(self, principal: Principal, path: str) -> None:
        """Check that a principal may call `path`.

        Raises:
            PermissionDenied: the principal has not the role.
        """
        if self.asks:
            _allowed(principal, path)

    def admit_token(self, path: str, authorization: str) -> Principal:
        """Return who makes an HTTP request, by its Authorization header, if they may read `path`.

        Raises:
            Unauthenticated: the token is not known.
            PermissionDenied: the principal has not the role.
        """
        if self._tokens is None:
            return ANYONE
        return _allowed(self._by_token(authorization, self._tokens), path)

    def _principal(self, caller: Caller) -> Principal:
        """Return who calls.

        Raises:
            Unauthenticated: nobody knows who calls.
        """
        if not self.asks:
            return ANYONE
        given = next((str(value) for key, value in caller.invocation_metadata() if key == "authorization"), "")
        if self._tokens is not None and given:
            return self._by_token(given, self._tokens)
        name = _common_name(caller) if self._certificates else ""
        if not name:
            raise Unauthenticated("credentials are missing: a bearer token in the metadata `authorization` is expected")
        if self._tokens is None:  # the authority that signs is the list
            return Principal(name=name, roles=ANYONE.roles)
        found = self._tokens.by_certificate(name)
        if found is None:
            raise Unauthenticated("the certificate's common name is not among the principals")
        return found

    def _by_token(self, given: str, tokens: TokenFile) -> Principal:
        if given[: len(_SCHEME)].lower() != _SCHEME:
            raise Unauthenticated("the authorization is not a bearer token")
        found = tokens.by_token(given[len(_SCHEME) :].strip())
        if found is None:
            raise Unauthenticated("the token is not known")
        return found


def _allowed(principal: Principal, path: str) -> Principal:
    needed = ROLES.get(path, frozenset())
    if needed is not None and not principal.roles & needed:
        wanted = " or ".join(sorted(needed)) or "none that there is"
        raise PermissionDenied(f"{principal.name} may not do this; the role needed: {wanted}")
    return principal


def _common_name(caller: Caller) -> str:
    values: Iterable[bytes] = caller.auth_context().get("x509_common_name", ())
    return next((value.decode("utf-8", "replace") for value in values), "")
