"""The one way of a call from its protocol to the response: check, admit, decode, compute, encode.

The protocols differ in how images are read and how the response is made. Each gives a `Query` that knows both.

Shapes: N images; the model's input shape after them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from accrete_server.errors import InvalidInput, LimitExceeded, NoModel
from accrete_server.images import BadImage
from accrete_server.metrics.collectors import PredictMetrics
from accrete_server.predict.admission import Admission, Call
from accrete_server.predict.batcher import Batcher, Computed, Request
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

    @property
    def images(self) -> Sequence[Sent]:
        """The N images as they were sent, not decoded. Raises InvalidInput."""
        ...

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


Observe = Callable[[Query[Any, Any], Array, Computed, NDArray[np.bool_]], None]
"""Takes a look at a call that has been answered: its query, its images as the model takes them [N, ...], what they came
to, and which of them are near no class [N]. It is called on the call's thread, and returns at once."""


class Pipeline:
    """Answers the calls of every protocol."""

    def __init__(
        self,
        max_images: int,
        slots: Slots,
        admission: Admission[Request],
        batcher: Batcher,
        metrics: PredictMetrics,
        observe: Observe | None = None,
    ) -> None:
        self._max_images = max_images
        self._slots = slots
        self._admission = admission
        self._batcher = batcher
        self._metrics = metrics
        self._observe = observe

    def answer(self, query: Query[Sent, Response], call: Call) -> Response:
        """Take a call through all steps, on its own thread, and return its response.

        Raises:
            InvalidInput: the request cannot be used, or an image cannot.
            LimitExceeded: there are too many images, or too many calls wait.
            DeadlinePassed: the deadline passed before the call's turn.
            CallerGone: the caller hung up before the call's turn.
            NoModel: there is no version yet, or every class was forgotten.
            ServerError: what `Query.check_view` raises.
        """
        # Check: what is wrong with the request is told before the call waits for anything.
        if query.count < 1:
            raise InvalidInput(f"{query.field}: empty; at least one image is needed")
        if query.count > self._max_images:
            raise LimitExceeded("max_images", self._max_images, f"{query.count} images in one call")
        view = query.check_view(self._slots.live)
        request = Request(partial(_decode, query, query.images), call, query.count)

        # Admit: wait for a turn. Another call's turn may take a call of one image through the next two steps.
        if self._admission.enter(call, request if request.images == 1 else None):
            began, calls = time.perf_counter(), 1
            try:
                # Decode: in the turn, since it is most of the work that a photograph needs.
                request.decode()
                # Compute: on a CPU at once, with those next in line; on a GPU after the turn, with all that is decoded.
                calls = self._batcher.policy(view).submit(request)
            finally:
                self._admission.leave(time.perf_counter() - began, calls)
        computed = request.result()

        # Encode: after the turn. Another version may have gone live while the call waited.
        if not computed.view.classifier.labels:
            raise NoModel(ALL_FORGOTTEN)
        if computed.view is not view:
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
            self._observe(query, request.batch, computed, unknown)
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


def _decode(query: Query[Sent, Any], images: Sequence[Sent]) -> Array:
    """Return all images of a call as the model takes them [N, ...]. Raises InvalidInput naming the one that is bad."""
    arrays = []
    for index, image in enumerate(images):
        try:
            arrays.append(query.decode(image))
        except BadImage as error:
            raise InvalidInput(f"{query.field}[{index}]: {error}") from error
    return arrays[0][None] if len(arrays) == 1 else np.stack(arrays)
