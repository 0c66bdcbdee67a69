"""The Prediction service.

Shapes: N images; the model's input shape after them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from accrete.v1 import prediction_pb2, prediction_pb2_grpc
from accrete_server import convert
from accrete_server.computing import Predictor
from accrete_server.config import ServerConfig
from accrete_server.errors import InvalidInput, LimitExceeded, NoModel
from accrete_server.images import BadImage, ImageReader
from accrete_server.metrics import PredictMetrics
from accrete_server.slots import TEACH_FIRST, Slots

MAX_TOP_K = 1000

ALL_FORGOTTEN = "every class of the model was forgotten: add examples (accrete add DIR, or Teaching.AddExamples)"


class Prediction(prediction_pb2_grpc.PredictionServicer):
    """Answers Predict from the live view."""

    def __init__(
        self, config: ServerConfig, slots: Slots, predictor: Predictor, reader: ImageReader, metrics: PredictMetrics
    ) -> None:
        self._config = config
        self._slots = slots
        self._predictor = predictor
        self._reader = reader
        self._metrics = metrics

    def Predict(  # noqa: N802  (the contract's name)
        self, request: prediction_pb2.PredictRequest, context: grpc.ServicerContext
    ) -> prediction_pb2.PredictResponse:
        """Ranks labels for each image."""
        started = time.perf_counter()
        top_k = self._check(request)
        computed = self._predictor.run(self._decoder(request), context)
        if not computed.view.answers.labels:
            raise NoModel(ALL_FORGOTTEN)
        self._metrics.answered(computed.queue_s, computed.decode_s)
        return prediction_pb2.PredictResponse(
            predictions=convert.predictions(computed, top_k, features=request.features),
            version=computed.view.version,
            timings=prediction_pb2.Timings(
                decode_ms=computed.decode_s * 1000,
                queue_ms=computed.queue_s * 1000,
                compute_ms=computed.compute_s * 1000,
                total_ms=(time.perf_counter() - started) * 1000,
            ),
        )

    def _check(self, request: prediction_pb2.PredictRequest) -> int:
        """How many labels to rank. Raises for a request that needs no decoding to be refused."""
        count = len(request.images)
        if not count:
            raise InvalidInput("images: empty; at least one image is needed")
        if count > self._config.max_images:
            raise LimitExceeded("max_images", self._config.max_images, f"{count} images in one call")
        if not 0 <= request.top_k <= MAX_TOP_K:
            raise InvalidInput(f"top_k: {request.top_k}; 1 to {MAX_TOP_K} are allowed, or 0 for the default")
        if self._slots.live is None:
            raise NoModel(TEACH_FIRST)
        return request.top_k or self._config.default_top_k

    def _decoder(self, request: prediction_pb2.PredictRequest) -> Callable[[], NDArray[Any]]:
        """Decodes all of the request's images into one batch [N, ...] when called."""

        def decode() -> NDArray[Any]:
            arrays = []
            for index, image in enumerate(request.images):
                try:
                    arrays.append(convert.read_image(image, self._reader))
                except BadImage as problem:
                    raise InvalidInput(f"images[{index}]: {problem}") from problem
            return arrays[0][None] if len(arrays) == 1 else np.stack(arrays)

        return decode
