"""Dynamic batching for engines on a GPU: requests that arrive while a batch computes form the next one.

No request waits for others to come: a batch is whatever is in line when the engine gets free.
Shapes: N images of one request, M of a batch; d feature length, C classes.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import Future
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accrete_server.errors import LimitExceeded, ServerError, ShuttingDown
from accrete_server.metrics.collectors import PredictMetrics
from accrete_server.predict.admission import Call, check_still_wanted
from accrete_server.predict.computing import Computed, compute
from accrete_server.versions.slots import Slots

_RETRY_S = 0.05  # a few batches later


class Batcher:
    """Gathers requests and computes them on one thread. Each batch is computed by exactly one version."""

    def __init__(self, slots: Slots, metrics: PredictMetrics, *, queue: int) -> None:
        self._slots = slots
        self._metrics = metrics
        self._queue = queue
        self._line: deque[_Request] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    @property
    def waiting(self) -> int:
        """Requests in line now."""
        return len(self._line)

    def compute(self, batch: NDArray[Any], call: Call) -> Computed:
        """Features and probabilities of one request's images [N, ...]; returns when its batch is done.

        Raises LimitExceeded when the line is full, DeadlinePassed or CallerGone when its turn comes too late.
        """
        request = _Request(batch, call)
        with self._changed:
            if self._closed:
                raise ShuttingDown("the server is shutting down")
            if len(self._line) >= self._queue:
                raise LimitExceeded("queue", self._queue, "too many calls are waiting", _RETRY_S)
            self._start()
            self._line.append(request)
            self._changed.notify()
        return request.outcome.result()

    def close(self) -> None:
        """Lets the requests in line finish, then stops."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="batcher", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        while requests := self._gather():
            wanted = [request for request in requests if request.is_wanted()]
            if wanted:
                self._compute(wanted)

    def _gather(self) -> list[_Request]:
        """The next batch: at least one request, as many more as fit; empty when closed and nothing is in line."""
        with self._changed:
            while not self._line and not self._closed:
                self._changed.wait()
            view = self._slots.live
            room = view.slot.loaded.max_batch if view is not None else 1
            taken: list[_Request] = []
            while self._line and (not taken or len(self._line[0].batch) <= room):
                taken.append(self._line.popleft())
                room -= len(taken[-1].batch)
            return taken

    def _compute(self, requests: list[_Request]) -> None:
        started = time.perf_counter()
        try:
            joined = np.concatenate([request.batch for request in requests]) if len(requests) > 1 else requests[0].batch
            whole = compute(self._slots, joined, self._metrics)
        except Exception as problem:  # goes to every caller of the batch, each of which reports it
            for request in requests:
                request.outcome.set_exception(problem)
            return
        first = 0
        for request in requests:
            last = first + len(request.batch)
            request.outcome.set_result(whole.part(first, last, queue_s=started - request.arrived))
            first = last


class _Request:
    """One call's images in line, and where its answer goes."""

    def __init__(self, batch: NDArray[Any], call: Call) -> None:
        self.batch = batch
        self.arrived = time.perf_counter()
        self.outcome: Future[Computed] = Future()
        self._call = call

    def is_wanted(self) -> bool:
        """Whether its caller still waits; if not, the outcome says why."""
        try:
            check_still_wanted(self._call)
        except ServerError as problem:
            self.outcome.set_exception(problem)
            return False
        return True
