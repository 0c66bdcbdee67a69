"""MLServer: a custom runtime, in the server's own process (`parallel_workers` 0 or 1 is for its settings to say)."""

from __future__ import annotations

import numpy as np
from mlserver import MLModel
from mlserver.types import InferenceRequest, InferenceResponse, Parameters, ResponseOutput
from model import Model, image_of


class Runtime(MLModel):
    """Takes `image`, UINT8 [N, H, W, 3] or BYTES [N], gives `probabilities` FP32 [N, K]."""

    async def load(self) -> bool:
        self._model = Model()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        (given,) = payload.inputs
        data = given.data.root
        if given.datatype == "BYTES":
            images = np.stack([image_of(_bytes(file)) for file in ([data] if isinstance(data, bytes) else data)])
        else:
            pixels = np.frombuffer(data, np.uint8) if isinstance(data, bytes) else np.asarray(data, np.uint8)
            images = pixels.reshape(given.shape)
        shares = self._model(images)
        found = ResponseOutput(
            name="probabilities",
            shape=list(shares.shape),
            datatype="FP32",
            data=shares.ravel().tolist(),
            parameters=Parameters(content_type="np"),
        )
        return InferenceResponse(model_name=self.name, outputs=[found])


def _bytes(element: object) -> bytes:
    return element if isinstance(element, bytes) else str(element).encode("latin-1")
