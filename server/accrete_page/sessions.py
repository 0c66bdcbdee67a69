"""Who is signed in. All of it is in this process's memory alone, and gone with it."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

IDLE_S = 12 * 3600.0
"""Seconds without a request after which a session ends."""
MOST = 1000
"""Sessions at once; beyond them the one that was idle longest ends."""


@dataclass(slots=True)
class _Session:
    token: str
    used_s: float


class Sessions:
    """The token of each session, by an identifier that tells nothing of it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._sessions: OrderedDict[str, _Session] = OrderedDict()

    def begin(self, token: str) -> str:
        """Return the identifier of a new session with `token`."""
        identifier = secrets.token_urlsafe(32)
        self._sessions[identifier] = _Session(token, self._clock())
        while len(self._sessions) > MOST:
            self._sessions.popitem(last=False)
        return identifier

    def token(self, identifier: str | None) -> str | None:
        """Return the token of a session and note that it is in use; None for one that is not known or has ended."""
        self._expire()
        session = self._sessions.get(identifier or "")
        if session is None or identifier is None:
            return None
        session.used_s = self._clock()
        self._sessions.move_to_end(identifier)
        return session.token

    def is_open(self, identifier: str | None) -> bool:
        """Return whether a session is known and has not ended, without noting that it is in use."""
        self._expire()
        return identifier in self._sessions

    def end(self, identifier: str | None) -> None:
        """Forget a session."""
        self._sessions.pop(identifier or "", None)

    def end_of(self, token: str) -> None:
        """Forget all sessions with a token that the server does not take any more."""
        for identifier in [one for one, session in self._sessions.items() if session.token == token]:
            del self._sessions[identifier]

    def tokens(self) -> set[str]:
        """Return the tokens of all sessions."""
        self._expire()
        return {session.token for session in self._sessions.values()}

    def _expire(self) -> None:
        last = self._clock() - IDLE_S
        while self._sessions and next(iter(self._sessions.values())).used_s < last:
            self._sessions.popitem(last=False)
