"""Computing the images of several calls as one batch, each batch by exactly one version.

Two policies say who computes, and which calls form a batch. On a CPU a call is computed in its own turn, on its own
thread, together with those that wait in line behind it. On a GPU one thread computes whatever has been decoded when the
engine gets free. No call waits for others to come.

Shapes: N images of one call, M of a batch; d feature length; C classes that the version ranks.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from accrete_model.vectors import Floats
from accrete_server.errors import LimitExceeded, ServerError, ShuttingDown
from accrete_server.metrics.collectors import PredictMetrics
from accrete_server.predict.admission import Admission, Call, check_still_wanted
from accrete_server.versions.slots import Slots, View

Array = NDArray[Any]
Compute = Callable[[Sequence["Request"]], None]

_RETRY_S = 0.05  # a few batches later


@dataclass(frozen=True, kw_only=True, slots=True)
class Computed:
    """What one call's images came to, and where the time went. All times are in seconds."""

    view: View
    version: int
    features: Floats  # [N, d]
    probabilities: Floats  # [N, C]
    queue_s: float
    decode_s: float
    compute_s: float
    """Of the whole batch."""


class Request:
    """One call's images on their way: decoded once, computed in one batch with other calls', then its outcome."""

    def __init__(self, decode: Callable[[], Array], call: Call, images: int = 1) -> None:
        """Note that the call waits from now on.

        Args:
            decode: Returns the decoded images [N, ...]; called once, when it is the call's turn.
            call: The call that asks.
            images: N.
        """
        self.images = images
        self.batch: Array | None = None
        """The decoded images [N, ...]; None before `decode`."""
        self._decode = decode
        self._call = call
        self._waits_since = time.perf_counter()
        self._queue_s = self._decode_s = 0.0
        self._outcome: Computed | Exception | None = None
        self._done = threading.Lock()  # the cheapest thing to wait for
        self._done.acquire()

    def decode(self) -> None:
        """Decode the images. Raises what the function given at the start raises."""
        began = time.perf_counter()
        self._queue_s = began - self._waits_since
        self.batch = self._decode()
        self._waits_since = time.perf_counter()
        self._decode_s = self._waits_since - began

    def end_wait(self) -> None:
        """Count the time since the images were decoded as waiting, too."""
        self._queue_s += time.perf_counter() - self._waits_since

    def is_wanted(self) -> bool:
        """Return whether the caller still waits. If not, that is the outcome."""
        try:
            check_still_wanted(self._call)
        except ServerError as error:
            self.fail(error)
            return False
        return True

    def try_decode(self) -> bool:
        """Decode the images in another call's turn. Return False, with the reason as the outcome, if that fails."""
        try:
            self.decode()
        except Exception as error:  # for the request's own caller alone
            self.fail(error)
            return False
        return True

    def succeed(self, view: View, version: int, features: Floats, probabilities: Floats, compute_s: float) -> None:
        """Set the outcome: the request's own rows of a batch that took `compute_s` seconds."""
        self._outcome = Computed(
            view=view,
            version=version,
            features=features,
            probabilities=probabilities,
            queue_s=self._queue_s,
            decode_s=self._decode_s,
            compute_s=compute_s,
        )
        self._done.release()

    def fail(self, error: Exception) -> None:
        """Set the outcome to an error, unless there is one already."""
        if self._outcome is None:
            self._outcome = error
            self._done.release()

    def result(self) -> Computed:
        """Wait for the outcome. Return what was computed, or raise the error. To be called once."""
        self._done.acquire()
        if isinstance(self._outcome, Computed):
            return self._outcome
        raise self._outcome or RuntimeError("a request was done without an outcome")


class Policy(Protocol):
    """Who computes a request, and which others form a batch with it."""

    def submit(self, request: Request) -> int:
        """Have a decoded request computed. To be called in its call's turn; the request's `result` has the outcome.

        Returns:
            The number of calls whose work was done in this turn.

        Raises:
            LimitExceeded: too many requests wait already.
            ShuttingDown: the server stops.
        """
        ...


class Batcher:
    """Both policies, on top of one way to compute a batch."""

    def __init__(self, slots: Slots, admission: Admission[Request], metrics: PredictMetrics, *, queue: int) -> None:
        """Start no thread yet.

        Args:
            slots: Where the live version is.
            admission: Where requests wait for a turn.
            metrics: What counts batches.
            queue: Decoded requests that may wait for a GPU.
        """
        self._slots = slots
        self._metrics = metrics
        self._cpu = CpuPolicy(admission, self._compute)
        self._gpu = GpuPolicy(slots, self._compute, queue=queue)

    @property
    def waiting(self) -> int:
        """Decoded requests that wait for a GPU now."""
        return self._gpu.waiting

    def policy(self, view: View) -> Policy:
        """Return the policy for the device that a version computes on."""
        return self._gpu if view.slot.loaded.on_gpu else self._cpu

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
            version = view.version
            self._metrics.computed(version, len(batch), seconds)
        except Exception as error:  # goes to every caller of the batch, and each reports it
            for request in requests:
                request.fail(error)
            return
        first = 0
        for request in requests:
            last = first + request.images
            request.succeed(view, version, features[first:last], probabilities[first:last], seconds)
            first = last


class CpuPolicy:
    """Computes a request in its call's turn, with the calls of one image that wait in line behind it.

    The engine gains nothing by it, but six threads that wake each other, each for a millisecond's work, cost more than
    one that does the work of all six.
    """

    def __init__(self, admission: Admission[Request], compute: Compute) -> None:
        self._admission = admission
        self._compute = compute

    def submit(self, request: Request) -> int:
        """Compute a request before this returns, and others with it. See `Policy`."""
        waiters = self._admission.gather() if request.images == 1 else []
        gathered = [waiter.task for waiter in waiters if waiter.task is not None]
        try:
            self._compute([request, *(other for other in gathered if other.is_wanted() and other.try_decode())])
        finally:
            for other in gathered:
                other.fail(RuntimeError("the turn that was to compute this ended before it had"))
            for waiter in waiters:
                waiter.finish()
        return 1 + len(gathered)


class GpuPolicy:
    """Computes on a thread of its own, for which decoded requests wait in line.

    A turn ends with decoding there, so that there are many requests to form a batch of.
    """

    def __init__(self, slots: Slots, compute: Compute, *, queue: int) -> None:
        self._slots = slots
        self._compute = compute
        self._queue = queue
        self._line: deque[Request] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    @property
    def waiting(self) -> int:
        """Requests in line now."""
        return len(self._line)

    def submit(self, request: Request) -> int:
        """Line a request up. See `Policy`."""
        with self._changed:
            if self._closed:
                raise ShuttingDown("the server is shutting down")
            if len(self._line) >= self._queue:
                raise LimitExceeded("queue", self._queue, "too many calls are waiting", _RETRY_S)
            self._start()
            self._line.append(request)
            self._changed.notify()
        return 1

    def close(self) -> None:
        """Finish the requests in line, then stop."""
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
        while requests := self._next():
            wanted = [request for request in requests if request.is_wanted()]
            for request in wanted:
                request.end_wait()
            if wanted:
                self._compute(wanted)

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
