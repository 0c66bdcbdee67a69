"""The threads that gRPC's calls run on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class CallThreads(ThreadPoolExecutor):
    """A thread for each call, and a count of the calls handed over whose thread has not begun.

    In a burst there are many of those, and none of them stands in a line yet.
    """

    def __init__(self, count: int) -> None:
        """Start at most `count` threads, each when it is needed."""
        super().__init__(count, thread_name_prefix="call")
        self.count = count
        """Threads at most."""
        self.starting = 0
        """Calls handed over whose thread has not begun."""
        self._lock = threading.Lock()

    def submit(self, work: Callable[..., Any], /, *args: Any, **named: Any) -> Future[Any]:
        """Run `work` on a thread."""
        with self._lock:
            self.starting += 1
        return super().submit(self._begin, work, *args, **named)

    def _begin(self, work: Callable[..., Any], /, *args: Any, **named: Any) -> Any:
        with self._lock:
            self.starting -= 1
        return work(*args, **named)


class InPlace(ThreadPoolExecutor):
    """An executor that runs what it is given on the thread that gives it.

    gRPC lets a handler name its threads by the attribute `experimental_thread_pool`. If a release of gRPC no longer
    looks for that, such a handler takes a thread like any other.
    """

    def __init__(self) -> None:
        super().__init__(max_workers=1)
        self._done: Future[Any] = Future()
        self._done.set_result(None)

    def submit(self, work: Callable[..., Any], /, *args: Any, **named: Any) -> Future[Any]:
        """Run `work` before this returns."""
        work(*args, **named)
        return self._done
