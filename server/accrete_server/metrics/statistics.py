"""Sums over answered calls by version, for ModelStatistics and the metrics with Triton's names."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace

KEPT = 4
"""Versions kept: the live one, and those before it that somebody who watches a swap still asks for."""


@dataclass(kw_only=True, slots=True)
class VersionStatistics:
    """Sums since the version first answered. Seconds are of calls, each with the whole computation it was part of."""

    version: int
    calls: int = 0
    images: int = 0
    total_s: float = 0.0
    queue_s: float = 0.0
    decode_s: float = 0.0
    compute_s: float = 0.0
    failed: dict[str, int] = field(default_factory=dict)
    """Calls that ended without an answer, by gRPC code."""
    failed_s: float = 0.0
    last_ms: int = 0
    """When a call was last answered, in milliseconds since 1970; 0: never."""
    batches: dict[int, tuple[int, float]] = field(default_factory=dict)
    """By the images in one computation: how many there were, and their seconds."""

    @property
    def output_s(self) -> float:
        """Seconds of making the answers, and of whatever else is neither waiting, decoding nor computing."""
        return max(0.0, self.total_s - self.queue_s - self.decode_s - self.compute_s)

    @property
    def executions(self) -> int:
        """How many computations there were."""
        return sum(count for count, _ in self.batches.values())


class Statistics:
    """Counts of calls and computations by version. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_version: dict[int, VersionStatistics] = {}
        self._latest = 0

    def computed(self, version: int, images: int, seconds: float) -> None:
        """Count one batch that `version` has computed."""
        with self._lock:
            batches = self._of(version).batches
            count, before = batches.get(images, (0, 0.0))
            batches[images] = count + 1, before + seconds

    def answered(
        self, version: int, images: int, *, total_s: float, queue_s: float, decode_s: float, compute_s: float
    ) -> None:
        """Count one call that has been answered."""
        with self._lock:
            own = self._of(version)
            own.calls += 1
            own.images += images
            own.total_s += total_s
            own.queue_s += queue_s
            own.decode_s += decode_s
            own.compute_s += compute_s
            own.last_ms = time.time_ns() // 1_000_000

    def failed(self, code: str, seconds: float) -> None:
        """Count one call that has ended without an answer, with a gRPC code, for the version that answered last."""
        with self._lock:
            own = self._of(self._latest)
            own.failed[code] = own.failed.get(code, 0) + 1
            own.failed_s += seconds

    def snapshot(self) -> list[VersionStatistics]:
        """Return a copy of what is kept, oldest version first."""
        with self._lock:
            of_versions = (own for own in self._by_version.values() if own.version)
            known = [replace(own, batches=dict(own.batches), failed=dict(own.failed)) for own in of_versions]
        return sorted(known, key=lambda own: own.version)

    def _of(self, version: int) -> VersionStatistics:
        own = self._by_version.get(version)
        if own is None:
            own = self._by_version[version] = VersionStatistics(version=version)
            while len(self._by_version) > KEPT:
                del self._by_version[next(iter(self._by_version))]
        self._latest = version
        return own
