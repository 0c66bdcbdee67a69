"""Engines that several versions use at once, each of which is made once and freed after its last user."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Any

from numpy.typing import NDArray

from accrete_model.engines.base import Engine
from accrete_model.vectors import Floats


class SharedEngines:
    """The engines of one process, counted by their users."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._engines: dict[Hashable, _Counted] = {}

    def acquire(self, key: Hashable, make: Callable[[], Engine]) -> Engine:
        """Return the engine of `key`, which `make` makes where nobody uses one. Its `close` takes back this use alone.

        What `make` raises is raised, and leaves nothing behind. A second caller waits for the first one's `make`.
        """
        with self._lock:
            counted = self._engines.get(key)
            if counted is None:
                counted = self._engines[key] = _Counted(make())
            counted.users += 1
        return _Use(counted.engine, lambda: self._release(key))

    def users(self, key: Hashable) -> int:
        """Return how many use the engine of `key` now."""
        with self._lock:
            counted = self._engines.get(key)
            return counted.users if counted else 0

    def _release(self, key: Hashable) -> None:
        with self._lock:
            counted = self._engines[key]
            counted.users -= 1
            if counted.users:
                return
            del self._engines[key]
        counted.engine.close()


class _Counted:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.users = 0


class _Use:
    """One user's hold on a shared engine."""

    def __init__(self, engine: Engine, release: Callable[[], None]) -> None:
        self._engine: Engine | None = engine
        self._release = release
        self.name = engine.name
        self.on_gpu = engine.on_gpu
        self.batch_sizes = engine.batch_sizes

    def run(self, batch: NDArray[Any]) -> Floats:
        """Return features [N, d] of a batch."""
        if self._engine is None:
            raise RuntimeError("the engine was closed")
        return self._engine.run(batch)

    def close(self) -> None:
        """Take back this use. A second call does nothing."""
        if self._engine is not None:
            self._engine = None
            self._release()
