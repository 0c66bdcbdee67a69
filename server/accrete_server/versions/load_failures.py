"""Versions that could not be loaded, and when each is worth another try."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from accrete_kit.backoff import wait_after

FIRST_RETRY_S = 5.0
"""A fault that passes (a file that is still being copied, memory that is short) has passed by then."""

LAST_RETRY_S = 300.0
"""Longest wait between two tries."""


@dataclass(frozen=True, kw_only=True)
class _Failure:
    reason: str
    attempts: int
    retry_at: float  # time.monotonic()


class LoadFailures:
    """Failures by version and digest. Thread-safe.

    A version that was published again has another digest, and may be tried at once.
    """

    def __init__(self) -> None:
        self._failures: dict[tuple[int, str], _Failure] = {}
        self._lock = threading.Lock()

    def is_waiting(self, version: int, digest: str) -> bool:
        """Return whether loading failed and the time for another try has not come."""
        with self._lock:
            failure = self._failures.get((version, digest))
        return failure is not None and time.monotonic() < failure.retry_at

    def record(self, version: int, digest: str, reason: str, *, passing: bool = False) -> int:
        """Record a failure, and return how many in a row it is.

        The wait for the next try doubles with each, unless it is one that will pass and has nothing to do with the
        version's files.
        """
        with self._lock:
            before = self._failures.get((version, digest))
            attempts = 1 if before is None else before.attempts + 1
            wait_s = wait_after(attempts, first_s=FIRST_RETRY_S, last_s=FIRST_RETRY_S if passing else LAST_RETRY_S)
            self._failures[version, digest] = _Failure(
                reason=reason, attempts=attempts, retry_at=time.monotonic() + wait_s
            )
        return attempts

    def forget(self, version: int) -> None:
        """Forget a version's failures, because it was loaded or is to be tried at once."""
        with self._lock:
            self._failures = {key: failure for key, failure in self._failures.items() if key[0] != version}

    def reason(self, version: int) -> str | None:
        """Return why the version failed when it was last tried, or None if it did not fail."""
        with self._lock:
            return next((failure.reason for key, failure in self._failures.items() if key[0] == version), None)
