"""The Prediction service, and what answering has in common whatever the protocol.

Shapes: N images; the model's input shape after them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import grpc
import numpy as np
from numpy.typing import NDArray

from accrete.v1 import prediction_pb2, prediction_pb2_grpc
from accrete_server import convert
from accrete_server.config import ServerConfig
from accrete_server.errors import InvalidInput, LimitExceeded, NoModel
from accrete_server.images import BadImage, ImageReader
from accrete_server.metrics.collectors import PredictMetrics
from accrete_server.predict.admission import Call
from accrete_server.predict.computing import Computed, Predictor
from accrete_server.predict.encoding import predictions
from accrete_server.versions.slots import TEACH_FIRST, Slots

MAX_TOP_K = 1000
MAX_UNKNOWN_RATE = 0.5

ALL_FORGOTTEN = "every class of the model was forgotten: add examples (accrete add DIR, or Teaching.AddExamples)"

Sent = TypeVar("Sent")


def check_unknown_rate(rate: float) -> float:
    """The rate of false alarms that a caller names. Raises InvalidInput."""
    if not 0 <= rate <= MAX_UNKNOWN_RATE:
        raise InvalidInput(f"unknown_rate: {rate}; 0 to {MAX_UNKNOWN_RATE} are allowed")
    return rate


class Answering:
    """The way of images to an answer: limits, admission, decoding, computing; and what it is counted as."""

    def __init__(self, max_images: int, predictor: Predictor, metrics: PredictMetrics) -> None:
        self._max_images = max_images
        self._predictor = predictor
        self._metrics = metrics

    def check(self, count: int, name: str) -> None:
        """Whether `count` images, sent as `name`, may be asked for at once. Raises InvalidInput or LimitExceeded."""
        if count < 1:
            raise InvalidInput(f"{name}: empty; at least one image is needed")
        if count > self._max_images:
            raise LimitExceeded("max_images", self._max_images, f"{count} images in one call")

    def compute(self, sent: Sequence[Sent], read: Callable[[Sent], NDArray[Any]], call: Call, name: str) -> Computed:
        """Features and probabilities of the images, each decoded by `read` once it is the call's turn.

        Raises what `Predictor.run` raises; InvalidInput naming the image that cannot be used; NoModel when no class is
        left.
        """

        def decode() -> NDArray[Any]:
            arrays = []
            for index, image in enumerate(sent):
                try:
                    arrays.append(read(image))
                except BadImage as problem:
                    raise InvalidInput(f"{name}[{index}]: {problem}") from problem
            return arrays[0][None] if len(arrays) == 1 else np.stack(arrays)

        computed = self._predictor.run(decode, call, len(sent))
        if not computed.view.answers.labels:
            raise NoModel(ALL_FORGOTTEN)
        return computed

    def unknown(self, computed: Computed, rate: float) -> tuple[NDArray[np.bool_], float]:
        """Which images are near no class [N], and the rate of false alarms that this has: at most `rate`."""
        if not rate:
            return np.zeros(len(computed.features), np.bool_), 0.0
        below = computed.view.slot.loaded.unknown_below(rate)
        unknown: NDArray[np.bool_] = computed.view.answers.nearness(computed.features) < below.nearness
        self._metrics.unknown(int(unknown.sum()))
        return unknown, below.rate

    def count(self, computed: Computed, started: float) -> float:
        """Counts a call that began at `started` (`time.perf_counter`) and whose answer is made; its seconds."""
        seconds = time.perf_counter() - started
        self._metrics.answered(computed.queue_s, computed.decode_s)
        self._metrics.statistics.answered(
            computed.view.version,
            len(computed.probabilities),
            total_s=seconds,
            queue_s=computed.queue_s,
            decode_s=computed.decode_s,
            compute_s=computed.compute_s,
        )
        return seconds


class Prediction(prediction_pb2_grpc.PredictionServicer):
    """Answers Predict from the live view."""

    def __init__(self, config: ServerConfig, slots: Slots, answering: Answering, reader: ImageReader) -> None:
        self._config = config
        self._slots = slots
        self._answering = answering
        self._reader = reader

    def Predict(  # noqa: N802  (the contract's name)
        self, request: prediction_pb2.PredictRequest, context: grpc.ServicerContext
    ) -> prediction_pb2.PredictResponse:
        """Ranks labels for each image."""
        started = time.perf_counter()
        top_k = self._check(request)
        computed = self._answering.compute(request.images, self._read, context, "images")
        unknown, false_alarm_rate = self._answering.unknown(computed, request.unknown_rate or self._config.unknown_rate)
        ranked = predictions(computed, top_k, unknown, features=request.features)
        return prediction_pb2.PredictResponse(
            predictions=ranked,
            version=computed.view.version,
            false_alarm_rate=false_alarm_rate,
            timings=prediction_pb2.Timings(
                decode_ms=computed.decode_s * 1000,
                queue_ms=computed.queue_s * 1000,
                compute_ms=computed.compute_s * 1000,
                total_ms=self._answering.count(computed, started) * 1000,
            ),
        )

    def _check(self, request: prediction_pb2.PredictRequest) -> int:
        """How many labels to rank. Raises for a request that needs no decoding to be refused."""
        self._answering.check(len(request.images), "images")
        if not 0 <= request.top_k <= MAX_TOP_K:
            raise InvalidInput(f"top_k: {request.top_k}; 1 to {MAX_TOP_K} are allowed, or 0 for the default")
        check_unknown_rate(request.unknown_rate)
        if self._slots.live is None:
            raise NoModel(TEACH_FIRST)
        return request.top_k or self._config.default_top_k

    def _read(self, image: Any) -> NDArray[Any]:
        return convert.read_image(image, self._reader)
