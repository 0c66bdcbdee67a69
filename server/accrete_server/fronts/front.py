"""What a front is, and the threads that take turns from it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from accrete_server.predict.batcher import Request
from accrete_server.predict.pipeline import Pipeline, Query

_STOP_S = 5.0  # for which a turn is waited for at the end: the calls in it have been cut off by then


@dataclass(frozen=True, kw_only=True)
class Method:
    """A method that a front brings calls of."""

    message: Any
    """The class of its requests."""
    query: Callable[[Any, Any], Query[Any, Any]]
    """Returns what a request asks. It is given the request, and the call as far as it tells who calls from where. It
    raises InvalidInput."""


Methods = Mapping[str, Method]
"""Methods by path, such as "/accrete.v1.Prediction/Predict"."""


class Front(Protocol):
    """Brings calls into the pipeline (`Pipeline.enter`), and line threads take them from there in turns."""

    def start(self) -> None:
        """Bring calls. To be called once gRPC's server has started."""
        ...

    def take(self) -> list[Request]:
        """Wait for a turn and return the calls in it; empty: the front is closed."""
        ...

    def close(self) -> None:
        """Bring no calls any more. To be called once gRPC's server has stopped."""
        ...


class LineThreads:
    """As many threads as there are turns at the same time."""

    def __init__(self, front: Front, pipeline: Pipeline, count: int) -> None:
        self._front = front
        self._pipeline = pipeline
        self._threads = [
            threading.Thread(target=self._work, name=f"line-{number}", daemon=True) for number in range(count)
        ]

    def start(self) -> None:
        """Start the front, then the threads."""
        self._front.start()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Close the front, then end the threads."""
        self._front.close()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(_STOP_S)

    def _work(self) -> None:
        while turn := self._front.take():
            self._pipeline.work(turn)
            turn = []  # what was answered need not live as long as the next wait
