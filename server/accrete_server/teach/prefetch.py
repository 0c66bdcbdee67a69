"""Prepare a stream's next item while the caller is busy with the one before."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Generic, TypeVar

A = TypeVar("A")
B = TypeVar("B")


@contextmanager
def prefetch(items: Iterator[A], prepare: Callable[[A], B]) -> Iterator[Iterator[B]]:
    """Yield an iterator over `prepare(item)` of each item, in order.

    While the caller is busy with one item, a thread waits for the next one and prepares it. The item after that is not
    taken from `items` before the caller has come back.

    What `items` or `prepare` raises is raised in the position of that item, and ends the iteration. The thread ends
    with `items`, or, once the caller has left the context, as soon as `items` or `prepare` returns.
    """
    thread = _Prefetcher(items, prepare)
    thread.start()
    try:
        yield thread.results()
    finally:
        thread.stop()


class _Prefetcher(threading.Thread, Generic[A, B]):
    def __init__(self, items: Iterator[A], prepare: Callable[[A], B]) -> None:
        super().__init__(name="prefetch")
        self._items = items
        self._prepare = prepare
        self._ready: SimpleQueue[tuple[B] | BaseException] = SimpleQueue()
        self._room = threading.Semaphore(1)
        self._stopped = False

    def run(self) -> None:
        try:
            while self._has_room():
                self._ready.put((self._prepare(next(self._items)),))
        except BaseException as error:  # StopIteration, too: the end keeps its position in the order
            self._ready.put(error)

    def results(self) -> Iterator[B]:
        while True:
            ready = self._ready.get()
            if isinstance(ready, StopIteration):
                return
            if isinstance(ready, BaseException):
                raise ready
            self._room.release()
            yield ready[0]

    def stop(self) -> None:
        self._stopped = True
        self._room.release()

    def _has_room(self) -> bool:
        self._room.acquire()
        return not self._stopped
