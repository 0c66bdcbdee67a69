"""Waiting until this server serves what a call has changed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from accrete_server.versions.slots import Slots

SERVED_WITHIN_S = 5.0
"""Seconds that a call that changes what is served waits for this server to serve it."""

_POLL_S = 0.05  # between two looks at what is served


class Awaiting(Protocol):
    """The part of a call that tells whether to go on waiting; grpc's ServicerContext has it."""

    def is_active(self) -> bool:
        """Return whether the caller still waits."""
        ...


def await_served(slots: Slots, done: Callable[[], bool], context: Awaiting) -> None:
    """Wait until `done`, the caller is gone, the server stops or a few seconds have passed."""
    until = time.monotonic() + SERVED_WITHIN_S
    while not done() and not slots.closed and context.is_active():
        left = until - time.monotonic()
        if left <= 0:
            return
        slots.wait_change(slots.live, min(left, _POLL_S))


def await_revision(slots: Slots, revision: int, context: Awaiting) -> None:
    """Wait, as `await_served`, until labels and masks of this server are those of a revision of the store."""

    def reached() -> bool:
        live = slots.live
        return live is None or live.revision >= revision

    await_served(slots, reached, context)


class Seen:
    """What another server told a caller.

    It is a text, version and revision, "12 3"; with "=" behind them, that very version. For another text nothing is
    waited for.
    """

    def __init__(self, slots: Slots) -> None:
        """`slots`: what is served here."""
        self._slots = slots

    def is_here(self, seen: str) -> bool:
        """Return whether this server has it."""
        words = seen.split(" ")
        exactly = words[2:] == ["="]
        if len(words) != 2 + exactly or not all(
            word.isascii() and word.isdecimal() and len(word) < 20 for word in words[:2]
        ):
            return True
        version, revision = map(int, words[:2])
        live = self._slots.live
        if live is None or live.revision < revision:
            return False
        return live.version == version if exactly else live.version >= version

    def wait(self, seen: str, context: Awaiting) -> None:
        """Wait, as `await_served`, until this server has it."""
        await_served(self._slots, lambda: self.is_here(seen), context)
