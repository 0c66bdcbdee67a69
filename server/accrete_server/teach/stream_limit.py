"""How many long-lived calls may be open, since each holds a thread of the server."""

from __future__ import annotations

import threading

from accrete_server.errors import LimitExceeded


class StreamLimit:
    """A bound on open long-lived calls (Watch, WaitLearned, StreamExamples). Each call enters it as a context."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open = 0
        self._lock = threading.Lock()

    @property
    def open(self) -> int:
        """Calls open now."""
        return self._open

    def __enter__(self) -> None:
        """Count a call in.

        Raises:
            LimitExceeded: `limit` calls are open already.
        """
        with self._lock:
            if self._open >= self._limit:
                raise LimitExceeded("max_watchers", self._limit, "too many watching and waiting calls are open", 1.0)
            self._open += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._open -= 1
