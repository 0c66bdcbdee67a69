"""Candidates that could not be loaded, and when each is worth another try. Safe to use from several threads."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from accrete_kit.backoff import wait_after

FIRST_RETRY_S = 5.0
"""A fault that passes (a file that is still being copied, memory that is short) has passed by then."""

LAST_RETRY_S = 300.0


@dataclass(frozen=True, kw_only=True)
class _Fault:
    reason: str
    attempts: int
    retry_at: float  # time.monotonic()


class BrokenCandidates:
    """By version and digest: a version that was published anew is another candidate."""

    def __init__(self) -> None:
        self._faults: dict[tuple[int, str], _Fault] = {}
        self._lock = threading.Lock()

    def is_waiting(self, version: int, digest: str) -> bool:
        """Whether it failed and the time for another try has not come."""
        with self._lock:
            fault = self._faults.get((version, digest))
        return fault is not None and time.monotonic() < fault.retry_at

    def note(self, version: int, digest: str, reason: str) -> int:
        """Notes a failure; answers how many in a row it is. The time to the next try doubles with each."""
        with self._lock:
            before = self._faults.get((version, digest))
            attempts = 1 if before is None else before.attempts + 1
            wait_s = wait_after(attempts, first_s=FIRST_RETRY_S, last_s=LAST_RETRY_S)
            self._faults[version, digest] = _Fault(reason=reason, attempts=attempts, retry_at=time.monotonic() + wait_s)
        return attempts

    def forget(self, version: int) -> None:
        """Forgets a version's failures: it was loaded, or is to be tried at once."""
        with self._lock:
            self._faults = {key: fault for key, fault in self._faults.items() if key[0] != version}

    def reason(self, version: int) -> str | None:
        """Why the version failed when it was last tried; None: it did not."""
        with self._lock:
            return next((fault.reason for key, fault in self._faults.items() if key[0] == version), None)
