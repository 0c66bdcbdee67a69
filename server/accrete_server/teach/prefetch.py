"""A stream's next item is made ready while the one before is at work."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Generic, TypeVar

A = TypeVar("A")
B = TypeVar("B")


@contextmanager
def one_ahead(items: Iterator[A], prepare: Callable[[A], B]) -> Iterator[Iterator[B]]:
    """`prepare(item)` of each item, in order. While the caller is busy with one, a thread waits for the next item and
    prepares it; the one after that is not taken from `items` before the caller has come back.

    What `items` or `prepare` raises is raised in that item's place, and ends the iteration. The thread ends with
    `items`, or, once the caller has left the context, as soon as `items` or `prepare` lets go of it.
    """
    thread = _Thread(items, prepare)
    thread.start()
    try:
        yield thread.results()
    finally:
        thread.leave()


class _Thread(threading.Thread, Generic[A, B]):
    def __init__(self, items: Iterator[A], prepare: Callable[[A], B]) -> None:
        super().__init__(name="ahead")
        self._items = items
        self._prepare = prepare
        self._ready: SimpleQueue[tuple[B] | BaseException] = SimpleQueue()
        self._room = threading.Semaphore(1)
        self._left = False

    def run(self) -> None:
        try:
            while self._has_room():
                self._ready.put((self._prepare(next(self._items)),))
        except BaseException as problem:  # StopIteration, too: the end has its place in the order like anything else
            self._ready.put(problem)

    def results(self) -> Iterator[B]:
        while True:
            ready = self._ready.get()
            if isinstance(ready, StopIteration):
                return
            if isinstance(ready, BaseException):
                raise ready
            self._room.release()
            yield ready[0]

    def leave(self) -> None:
        self._left = True
        self._room.release()

    def _has_room(self) -> bool:
        self._room.acquire()
        return not self._left
