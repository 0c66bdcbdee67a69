"""The one way of a call from its protocol to the response: check, admit, decode, compute, encode.

The protocols differ in how images are read and how the response is made. Each gives a `Query` that knows both.

Shapes: N images; the model's input shape after them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from accrete_server.access.tokens import Principal
from accrete_server.errors import DeadlinePassed, InvalidInput, LimitExceeded, NoModel
from accrete_server.images import BadImage
from accrete_server.metrics.collectors import PredictMetrics
from accrete_server.predict.admission import Call
from accrete_server.predict.batcher import Batcher, Computed, Request
from accrete_server.predict.line import Line
from accrete_server.versions.slots import Slots, View

MAX_UNKNOWN_RATE = 0.5

ALL_FORGOTTEN = "every class of the model was forgotten: add examples (accrete add DIR, or Teaching.AddExamples)"

Array = NDArray[Any]
Sent = TypeVar("Sent")
Response = TypeVar("Response", covariant=True)

Content = bytes | tuple[tuple[int, ...], bytes]
"""An image as it was sent: a file, or the shape and the bytes of a uint8 tensor."""


class Query(Protocol[Sent, Response]):
    """One call as its protocol reads it: the images, what is asked of them, and how the response is made.

    What is wrong with a request, but for the images, is raised when its query is made.
    """

    started: float
    """When the call began (`time.perf_counter`)."""
    field: str
    """The name of the images in the request, for errors."""
    count: int
    """N, as the request says; any number."""
    unknown_rate: float
    """Share of images of known classes that may be called unknown; 0: nothing is called unknown."""
    timeout_s: float
    """The request's own timeout in seconds, beside gRPC's deadline; 0: none."""

    @property
    def images(self) -> Sequence[Sent]:
        """The N images as they were sent, not decoded. Raises InvalidInput."""
        ...

    def check_images(self) -> None:
        """Check what can be told of the images before the call has its turn. Raises InvalidInput."""

    def check_view(self, view: View | None) -> View:
        """Return `view` if it may answer the call. It is the live one when the call comes, then the one that computed.

        Raises:
            NoModel: there is no version yet.
            ModelNotReady: there is no version yet.
            Unknown: the request names another version.
        """

    def content(self, index: int) -> Content:
        """Return one of the images as it was sent, to be kept."""
        ...

    def decode(self, image: Sent) -> Array:
        """Return an image as the model takes it. Raises BadImage."""
        ...

    def encode(self, computed: Computed, unknown: NDArray[np.bool_], false_alarm_rate: float) -> Response:
        """Return the response.

        Args:
            computed: What the images came to.
            unknown: Which images are near no class [N].
            false_alarm_rate: Share of images of known classes for which that is wrong; at most `unknown_rate`.
        """
        ...


Answer = Callable[[Callable[[], Query[Any, Any]], Any], Any]
"""Returns the response to a call, on the thread of its handler. It is given what reads the query, and gRPC's context of
the call."""


class FrontCall(Call, Protocol):
    """A call of any protocol as a front brings it. It ends by one `respond` or `fail`, which return at once."""

    principal: Principal
    """Who calls."""

    def read(self) -> Query[Any, Any]:
        """Return what is asked. Raises InvalidInput."""
        ...

    def respond(self, response: Any) -> None:
        """End the call with its response, a message of its protocol."""
        ...

    def fail(self, error: Exception) -> None:
        """End the call with the status of an error."""
        ...


Observe = Callable[[Query[Any, Any], Array, Computed, NDArray[np.bool_], Principal], None]
"""Takes a look at a call that has been answered: its query, its images as the model takes them [N, ...], what they came
to, which of them are near no class [N], and who called. It is called on a thread that answers, and returns at once."""


class _Asked(Request):
    """A call on its way, with what it asks and the view that was live when it came."""

    def __init__(self, call: FrontCall, query: Query[Any, Any], view: View) -> None:
        super().__init__(partial(_decode, query), call, query.count, query.timeout_s)
        self.call = call
        self.query = query
        self.view = view


class Pipeline:
    """Answers the calls of every protocol, whichever front brings them."""

    def __init__(
        self,
        max_images: int,
        slots: Slots,
        line: Line,
        metrics: PredictMetrics,
        observe: Observe | None = None,
        *,
        queue: int,
    ) -> None:
        self._max_images = max_images
        self._slots = slots
        self._line = line
        self._metrics = metrics
        self._observe = observe
        self.batcher = Batcher(slots, metrics, self._finish, queue=queue)
        """What computes."""

    def enter(self, call: FrontCall) -> Request | None:
        """Check a call and line it up. What is wrong with the request is told before the call waits for anything.

        Returns:
            What stands in line; None: the call has failed.
        """
        try:
            query = call.read()
            if query.count < 1:
                raise InvalidInput(f"{query.field}: empty; at least one image is needed")
            if query.count > self._max_images:
                raise LimitExceeded("max_images", self._max_images, f"{query.count} images in one call")
            query.check_images()
            request = _Asked(call, query, query.check_view(self._slots.live))
            self._line.enter(request)
        except Exception as error:
            call.fail(error)
            return None
        # A caller that hangs up leaves the line at once.
        if not call.add_callback(partial(self.give_up, request)):
            self.give_up(request)
        return request

    def work(self, requests: Sequence[Request]) -> None:
        """Take the calls of a turn through the next steps, on the turn's thread."""
        began = time.perf_counter()
        try:
            # Decode: in the turn, since it is most of the work that a photograph needs.
            decoded = [request for request in requests if request.is_wanted() and request.try_decode()]
            self._finish([request for request in requests if request.outcome is not None])
            # Compute: as one batch. On a GPU it is one with all that other turns have decoded by then.
            self.batcher.submit(decoded)
        except Exception as error:  # a fault of ours, for which nobody is to wait; who has an answer keeps it
            for request in cast(Sequence[_Asked], requests):
                request.call.fail(error)
        finally:
            self._line.leave(requests, time.perf_counter() - began)

    def give_up_late(self) -> None:
        """Fail the calls in line whose own timeout has passed."""
        for request in self._line.late():
            self.give_up(request)

    def give_up(self, request: Request) -> None:
        """Fail a call that nobody waits for any more, if it stands in line."""
        if self._line.drop(request):
            if request.is_wanted():  # clocks differ
                request.fail(DeadlinePassed("the deadline passed while waiting in line; nothing was computed"))
            self._finish([request])

    def _finish(self, requests: Sequence[Request]) -> None:
        """Answer calls whose requests have an outcome."""
        for request in cast(Sequence[_Asked], requests):
            try:
                response = self._encode(request)
            except Exception as error:
                request.call.fail(error)
            else:
                request.call.respond(response)

    def _encode(self, request: _Asked) -> Any:
        """Return the response. Another version may have gone live while the call waited.

        Raises:
            NoModel: every class was forgotten.
            ServerError: what `Query.check_view` raises.
            Exception: the request's outcome.
        """
        query, computed = request.query, request.result()
        if not computed.view.classifier.labels:
            raise NoModel(ALL_FORGOTTEN)
        if computed.view is not request.view:
            query.check_view(computed.view)
        unknown, false_alarm_rate = self._find_unknown(computed, query.unknown_rate)
        response = query.encode(computed, unknown, false_alarm_rate)
        self._metrics.answered(
            computed.version,
            query.count,
            total_s=time.perf_counter() - query.started,
            queue_s=computed.queue_s,
            decode_s=computed.decode_s,
            compute_s=computed.compute_s,
        )
        if self._observe is not None and request.batch is not None:
            self._observe(query, request.batch, computed, unknown, request.call.principal)
        return response

    def _find_unknown(self, computed: Computed, rate: float) -> tuple[NDArray[np.bool_], float]:
        """Return which images are near no class [N], and the rate of false alarms that this has: at most `rate`."""
        if not rate:
            return np.zeros(len(computed.features), np.bool_), 0.0
        below = computed.view.slot.loaded.unknown_below(rate)
        unknown: NDArray[np.bool_] = computed.view.classifier.nearness(computed.features) < below.nearness
        self._metrics.unknown(int(unknown.sum()))
        return unknown, below.rate


def check_unknown_rate(rate: float) -> float:
    """Return the rate of false alarms that a caller names. Raises InvalidInput."""
    if not 0 <= rate <= MAX_UNKNOWN_RATE:
        raise InvalidInput(f"unknown_rate: {rate}; 0 to {MAX_UNKNOWN_RATE} are allowed")
    return rate


def _decode(query: Query[Any, Any]) -> Array:
    """Return all images of a call as the model takes them [N, ...]. Raises InvalidInput naming the one that is bad."""
    arrays = []
    for index, image in enumerate(query.images):
        try:
            arrays.append(query.decode(image))
        except BadImage as error:
            raise InvalidInput(f"{query.field}[{index}]: {error}") from error
    return arrays[0][None] if len(arrays) == 1 else np.stack(arrays)
