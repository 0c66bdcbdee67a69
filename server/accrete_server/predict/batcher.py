"""Computing the images of several calls as one batch, each batch by exactly one version.

On a CPU the calls of a turn are one batch, computed on the turn's thread. On a GPU one thread computes whatever turns
have decoded when the engine gets free. No call waits for others to come.

Shapes: N images of one call, M of a batch; d feature length; C classes that the version ranks.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accrete_model.vectors import Floats, highest
from accrete_server.errors import LimitExceeded, ServerError, ShuttingDown
from accrete_server.metrics.collectors import PredictMetrics
from accrete_server.predict.admission import Call, check_still_wanted
from accrete_server.versions.slots import Slots, View

Array = NDArray[Any]
Finish = Callable[[Sequence["Request"]], None]
"""Answers the calls of requests that have an outcome."""

_RETRY_S = 0.05  # a few batches later


Ranked = list[tuple[int, float, bool]]
"""Of one image: the most probable classes by their numbers, each with its probability and whether it is provisional."""


class Batch:
    """What the images of a batch came to. It is ranked as a whole, since that takes hardly longer than for one call."""

    __slots__ = ("_ranked", "_view", "probabilities")

    def __init__(self, view: View, probabilities: Floats) -> None:
        """`view` has computed it. `probabilities`: [M, C]."""
        self._view = view
        self.probabilities = probabilities
        self._ranked: dict[int, list[Ranked]] = {}

    def ranked(self, count: int) -> list[Ranked]:
        """Return the `count` most probable classes of each image, fewer where there are no more."""
        found = self._ranked.get(count)
        if found is None:
            ranks, best = highest(self.probabilities, count)  # [M, K] both
            columns = (ranks.tolist(), best.tolist(), self._view.classifier.provisional[ranks].tolist())
            found = self._ranked[count] = [list(zip(*row, strict=True)) for row in zip(*columns, strict=True)]
        return found


@dataclass(frozen=True, kw_only=True, slots=True)
class Computed:
    """What one call's images came to, and where the time went. All times are in seconds."""

    view: View
    version: int
    batch: Batch
    """Of which they were a part."""
    rows: slice
    """Which part."""
    features: Floats  # [N, d]
    probabilities: Floats  # [N, C]
    queue_s: float
    decode_s: float
    compute_s: float
    """Of the whole batch."""

    def ranked(self, count: int) -> list[Ranked]:
        """Return the `count` most probable classes of each of the N images, fewer where there are no more."""
        return self.batch.ranked(count)[self.rows]


class Request:
    """One call's images on their way: decoded once, computed in one batch with other calls', then its outcome.

    To admission it is the call, with the request's own timeout beside gRPC's deadline.
    """

    def __init__(self, decode: Callable[[], Array], call: Call, images: int = 1, timeout_s: float = 0.0) -> None:
        """Note that the call waits from now on.

        Args:
            decode: Returns the decoded images [N, ...]; called once, when it is the call's turn.
            call: The call that asks.
            images: N.
            timeout_s: Seconds after which nobody wants the response; 0: no such limit.
        """
        self.images = images
        self.batch: Array | None = None
        """The decoded images [N, ...]; None before `decode`."""
        self.until = time.monotonic() + timeout_s if timeout_s > 0 else None
        """When the request's own timeout passes (`time.monotonic`); None: it has none."""
        self.is_waiting = False
        """Whether it stands in line. Changes under the line's lock."""
        self.outcome: Computed | Exception | None = None
        """What it came to; None: nothing yet."""
        self._decode = decode
        self._call = call
        self._waits_since = time.perf_counter()
        self._queue_s = self._decode_s = 0.0

    def is_active(self) -> bool:
        """Return whether the caller still waits."""
        return self._call.is_active()

    def time_remaining(self) -> float | None:
        """Return the seconds until the nearer deadline, None without one."""
        remaining = self._call.time_remaining()
        if self.until is None:
            return remaining
        own = self.until - time.monotonic()
        return own if remaining is None else min(remaining, own)

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Run `callback` when the call ends. Return False when it has ended already."""
        return self._call.add_callback(callback)

    def is_wanted(self) -> bool:
        """Return whether the caller still waits. If not, that is the outcome."""
        try:
            check_still_wanted(self)
        except ServerError as error:
            self.fail(error)
            return False
        return True

    def try_decode(self) -> bool:
        """Decode the images. Return False, with the reason as the outcome, if that fails."""
        began = time.perf_counter()
        self._queue_s = began - self._waits_since
        try:
            self.batch = self._decode()
        except Exception as error:  # for the request's own caller alone
            self.fail(error)
            return False
        self._waits_since = time.perf_counter()
        self._decode_s = self._waits_since - began
        return True

    def end_wait(self) -> None:
        """Count the time since the images were decoded as waiting, too."""
        self._queue_s += time.perf_counter() - self._waits_since

    def succeed(self, view: View, batch: Batch, features: Floats, first: int, compute_s: float) -> None:
        """Set the outcome: the request's own rows of a batch.

        Args:
            view: what computed it.
            batch: all of it.
            features: all of them [M, d].
            first: the request's first row.
            compute_s: seconds that the batch took.
        """
        rows = slice(first, first + self.images)
        self.outcome = Computed(
            view=view,
            version=view.version,
            batch=batch,
            rows=rows,
            features=features[rows],
            probabilities=batch.probabilities[rows],
            queue_s=self._queue_s,
            decode_s=self._decode_s,
            compute_s=compute_s,
        )

    def fail(self, error: Exception) -> None:
        """Set the outcome to an error, unless there is one already."""
        if self.outcome is None:
            self.outcome = error

    def result(self) -> Computed:
        """Return what was computed, or raise the error."""
        if isinstance(self.outcome, Computed):
            return self.outcome
        raise self.outcome or RuntimeError("a request was done without an outcome")


class Batcher:
    """Both ways to form a batch, on top of one way to compute it."""

    def __init__(self, slots: Slots, metrics: PredictMetrics, finish: Finish, *, queue: int) -> None:
        """Start no thread yet.

        Args:
            slots: Where the live version is.
            metrics: What counts batches.
            finish: Takes every request that was submitted, once it has an outcome.
            queue: Decoded requests that may wait for a GPU.
        """
        self._slots = slots
        self._metrics = metrics
        self._finish = finish
        self._gpu = _GpuLine(slots, self._compute, finish, queue=queue)

    @property
    def waiting(self) -> int:
        """Decoded requests that wait for a GPU now."""
        return self._gpu.waiting

    def submit(self, requests: Sequence[Request]) -> None:
        """Have the decoded requests of a turn computed and finished: on a CPU now, on a GPU with those of others."""
        view = self._slots.live
        if view is not None and view.slot.loaded.on_gpu:
            self._gpu.add(requests)
        else:
            if requests:
                self._compute(requests)
            self._finish(requests)

    def close(self) -> None:
        """Finish the requests in line, then stop."""
        self._gpu.close()

    def _compute(self, requests: Sequence[Request]) -> None:
        """Compute decoded requests as one batch by the version that is live now. Each gets its rows, or the error."""
        try:
            batches = [request.batch for request in requests if request.batch is not None]
            batch = batches[0] if len(batches) == 1 else np.concatenate(batches)  # [M, ...]
            started = time.perf_counter()
            view = self._slots.take()
            try:
                features = view.slot.loaded.features(batch)  # [M, d]
                probabilities = view.classifier(features)  # [M, C]
            finally:
                self._slots.give_back(view)
            seconds = time.perf_counter() - started
            self._metrics.computed(view.version, len(batch), seconds)
        except Exception as error:  # goes to every caller of the batch, and each reports it
            for request in requests:
                request.fail(error)
            return
        whole, first = Batch(view, probabilities), 0
        for request in requests:
            request.succeed(view, whole, features, first, seconds)
            first += request.images


class _GpuLine:
    """Decoded requests that wait for the engine, its thread, and one that answers what it has computed."""

    def __init__(self, slots: Slots, compute: Finish, finish: Finish, *, queue: int) -> None:
        self._slots = slots
        self._compute = compute
        self._finish = finish
        self._queue = queue
        self._line: deque[Request] = deque()
        self._done = SimpleQueue[list[Request]]()
        self._changed = threading.Condition()
        self._closed = False
        self._threads: list[threading.Thread] = []

    @property
    def waiting(self) -> int:
        """Requests in line now."""
        return len(self._line)

    def add(self, requests: Sequence[Request]) -> None:
        """Line requests up. Those that there is no room for are finished at once."""
        refused: list[Request] = []
        with self._changed:
            for request in requests:
                if self._closed:
                    request.fail(ShuttingDown("the server is shutting down"))
                elif len(self._line) >= self._queue:
                    request.fail(LimitExceeded("queue", self._queue, "too many calls are waiting", _RETRY_S))
                else:
                    self._line.append(request)
                    continue
                refused.append(request)
            self._start()
            self._changed.notify()
        self._finish(refused)

    def close(self) -> None:
        """Finish the requests in line, then stop."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        for thread in self._threads:
            thread.join()

    def _start(self) -> None:
        if not self._threads and not self._closed:
            for name, work in (("batcher", self._work), ("answers", self._answer)):
                self._threads.append(threading.Thread(target=work, name=name, daemon=True))
                self._threads[-1].start()

    def _work(self) -> None:
        while requests := self._next():
            wanted = [request for request in requests if request.is_wanted()]
            for request in wanted:
                request.end_wait()
            if wanted:
                self._compute(wanted)
            self._done.put(requests)
        self._done.put([])

    def _answer(self) -> None:
        """Answer on a thread of its own, so that the engine goes on meanwhile."""
        while requests := self._done.get():
            self._finish(requests)

    def _next(self) -> list[Request]:
        """Return the next batch: at least one request, as many more as fit; empty when closed and none is in line."""
        with self._changed:
            while not self._line and not self._closed:
                self._changed.wait()
            view = self._slots.live
            free = view.slot.loaded.max_batch if view is not None else 1
            taken: list[Request] = []
            while self._line and (not taken or self._line[0].images <= free):
                taken.append(self._line.popleft())
                free -= taken[-1].images
            return taken
