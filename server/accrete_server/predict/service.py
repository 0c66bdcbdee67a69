"""The Prediction service: how Predict reads images and makes its response.

Shapes: N images; C classes that the version ranks, K of them in the response.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

import grpc
import numpy as np
from numpy.typing import NDArray

from accrete.v1 import prediction_pb2, prediction_pb2_grpc, types_pb2
from accrete_server.config import ServerConfig
from accrete_server.errors import InvalidInput, NoModel
from accrete_server.images import ImageReader
from accrete_server.predict.batcher import Computed
from accrete_server.predict.pipeline import Answer, Content, check_unknown_rate
from accrete_server.versions.slots import TEACH_FIRST, View

MAX_TOP_K = 1000


class Prediction(prediction_pb2_grpc.PredictionServicer):
    """The service on top of the pipeline."""

    def __init__(self, config: ServerConfig, answer: Answer, reader: ImageReader) -> None:
        self._config = config
        self._answer = answer
        self._reader = reader

    def query(self, request: prediction_pb2.PredictRequest, caller: object) -> PredictQuery:
        """Return what a request asks, whoever the caller is. Raises InvalidInput."""
        return PredictQuery(request, self._config, self._reader)

    def Predict(  # noqa: N802  (the contract's name)
        self, request: prediction_pb2.PredictRequest, context: grpc.ServicerContext
    ) -> prediction_pb2.PredictResponse:
        """Rank labels for each image."""
        response: prediction_pb2.PredictResponse = self._answer(partial(self.query, request, context), context)
        return response


class PredictQuery:
    """A PredictRequest, as the pipeline asks for it."""

    field, timeout_s = "images", 0.0

    def __init__(self, request: prediction_pb2.PredictRequest, config: ServerConfig, reader: ImageReader) -> None:
        """Check the numbers that the caller names. Raises InvalidInput."""
        self.started = time.perf_counter()
        if not 0 <= request.top_k <= MAX_TOP_K:
            raise InvalidInput(f"top_k: {request.top_k}; 1 to {MAX_TOP_K} are allowed, or 0 for the default")
        self.count = len(request.images)
        self.unknown_rate = check_unknown_rate(request.unknown_rate) or config.unknown_rate
        self.images: Sequence[types_pb2.Image] = request.images
        self._top_k = request.top_k or config.default_top_k
        self._with_features = request.features
        self.decode = reader.read

    def check_images(self) -> None:
        """Do nothing: there are as many as there are."""

    def check_view(self, view: View | None) -> View:
        """Return the view if there is one. Raises NoModel."""
        if view is None:
            raise NoModel(TEACH_FIRST)
        return view

    def content(self, index: int) -> Content:
        """Return one of the images as it was sent."""
        image = self.images[index]
        if image.WhichOneof("content") != "tensor":
            return image.encoded
        return tuple(image.tensor.shape), image.tensor.data

    def encode(
        self, computed: Computed, unknown: NDArray[np.bool_], false_alarm_rate: float
    ) -> prediction_pb2.PredictResponse:
        """Return the response: ranked labels, marks [N], features when asked for, and where the time went."""
        labels = computed.view.classifier.labels
        response = prediction_pb2.PredictResponse(version=computed.version, false_alarm_rate=false_alarm_rate)
        for row, is_unknown in zip(computed.ranked(self._top_k), unknown.tolist(), strict=True):
            add = response.predictions.add(unknown=is_unknown).labels.add  # in place: messages are copied otherwise
            for rank, probability, is_new in row:
                add(label=labels[rank], probability=probability, provisional=is_new)
        if self._with_features:
            for prediction, row in zip(response.predictions, computed.features, strict=True):
                prediction.features.extend(row.tolist())
        response.timings.decode_ms = computed.decode_s * 1000
        response.timings.queue_ms = computed.queue_s * 1000
        response.timings.compute_ms = computed.compute_s * 1000
        response.timings.total_ms = (time.perf_counter() - self.started) * 1000
        return response
