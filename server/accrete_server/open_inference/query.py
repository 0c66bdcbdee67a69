"""How ModelInfer reads images and makes its response.

Shapes: N images.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accrete.inference import service_pb2
from accrete_server.errors import InvalidInput, ModelNotReady
from accrete_server.images import ImageReader
from accrete_server.open_inference import outputs
from accrete_server.open_inference.describing import ServedModel
from accrete_server.open_inference.inputs import BYTES, FindShared, SentImages
from accrete_server.predict.batcher import Computed
from accrete_server.predict.pipeline import Content, check_unknown_rate
from accrete_server.versions.slots import TEACH_FIRST, View

_UNKNOWN_RATE, _FALSE_ALARM_RATE = "unknown_rate", "false_alarm_rate"
"""Parameters of a request and of its response: Predict's fields of these names."""


class InferQuery:
    """A ModelInferRequest, as the pipeline asks for it."""

    def __init__(
        self,
        request: service_pb2.ModelInferRequest,
        model: ServedModel,
        live: View | None,
        reader: ImageReader,
        find_shared: FindShared,
    ) -> None:
        """Check all that the request says, but for its images.

        Raises:
            InvalidInput: a tensor or a parameter cannot be used.
            Unknown: the request names another model or version, or a region of shared memory that is not registered.
            ServerError: what `find_shared` raises.
        """
        self.started = time.perf_counter()
        model.check_name(request.model_name)
        model.check_version(request.model_version, live)
        self.timeout_s = _timeout_s(request)
        self._outputs = outputs.wanted_outputs(request)
        self._sent = SentImages(request, model.input, find_shared)
        self._images: Sequence[bytes | memoryview] | None = None
        rate = _named_rate(request) or model.unknown_rate
        self.unknown_rate = rate if any(output.name == outputs.UNKNOWN for output in self._outputs) else 0.0
        self.field, self.count = self._sent.name, self._sent.count
        self._request = request
        self._model = model
        self._reader = reader

    def check_view(self, view: View | None) -> View:
        """Return the view if there is one, and it is of the version named.

        Raises:
            ModelNotReady: there is no version yet.
            Unknown: the request names another version.
        """
        self._model.check_version(self._request.model_version, view)
        if view is None:
            raise ModelNotReady(TEACH_FIRST)
        return view

    def check_images(self) -> None:
        """Check that there are as many images as the shape says; in shared memory that waits for the turn, too.

        Raises:
            InvalidInput: there are more or fewer.
        """
        if not self._sent.is_shared:
            self.images  # noqa: B018  (cut once)

    @property
    def images(self) -> Sequence[bytes | memoryview]:
        """The bytes of each image. Raises InvalidInput when there are more or fewer than the shape says."""
        if self._images is None:
            self._images = self._sent.split()
        return self._images

    def content(self, index: int) -> Content:
        """Return one of the images as it was sent."""
        data = bytes(self.images[index])
        return data if self._sent.datatype == BYTES else (tuple(self._sent.shape), data)

    def decode(self, image: bytes | memoryview) -> NDArray[Any]:
        """Return an image as the model takes it. Raises BadImage."""
        return self._sent.decode(image, self._reader)

    def encode(
        self, computed: Computed, unknown: NDArray[np.bool_], false_alarm_rate: float
    ) -> service_pb2.ModelInferResponse:
        """Return the response with the outputs that were asked for. `unknown`: which images are near no class [N]."""
        response = service_pb2.ModelInferResponse(
            model_name=self._model.name, model_version=str(computed.version), id=self._request.id
        )
        if self.unknown_rate:
            response.parameters[_FALSE_ALARM_RATE].double_param = false_alarm_rate
        outputs.fill(response, self._outputs, computed, unknown)
        return response


def _timeout_s(request: service_pb2.ModelInferRequest) -> float:
    """Return the request's own timeout in seconds; 0: none. Raises InvalidInput for parameters that would change the
    response."""
    given = request.parameters
    if any(key.startswith("sequence_") for key in given):
        raise InvalidInput("parameters: sequence_*: this model keeps no state between requests")
    return given["timeout"].int64_param / 1e6 if "timeout" in given else 0.0


def _named_rate(request: service_pb2.ModelInferRequest) -> float:
    """Return the rate of false alarms that the request names, in whichever form its client has for numbers; 0: none.

    Raises:
        InvalidInput: it is no number, or out of range.
    """
    if _UNKNOWN_RATE not in request.parameters:
        return 0.0
    given = request.parameters[_UNKNOWN_RATE]
    value = getattr(given, given.WhichOneof("parameter_choice") or "string_param")
    try:
        return check_unknown_rate(float(value))
    except ValueError as error:
        raise InvalidInput(f"parameters: unknown_rate: {value!r}; a number is allowed") from error
