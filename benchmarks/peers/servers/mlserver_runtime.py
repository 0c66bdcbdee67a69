"""MLServer: a custom runtime, in the server's own process (`parallel_workers` 0 or 1 is for its settings to say)."""

from __future__ import annotations

import numpy as np
from mlserver import MLModel
from mlserver.types import InferenceRequest, InferenceResponse, Parameters, ResponseOutput
from model import Model


class Runtime(MLModel):
    """Takes `image` UINT8 [N, 32, 32, 3], gives `probabilities` FP32 [N, K]."""

    async def load(self) -> bool:
        self._model = Model()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        (given,) = payload.inputs
        images = np.frombuffer(given.data.root, np.uint8) if isinstance(given.data.root, bytes) else None
        if images is None:
            images = np.asarray(given.data.root, np.uint8)
        shares = self._model(images.reshape(given.shape))
        found = ResponseOutput(
            name="probabilities",
            shape=list(shares.shape),
            datatype="FP32",
            data=shares.ravel().tolist(),
            parameters=Parameters(content_type="np"),
        )
        return InferenceResponse(model_name=self.name, outputs=[found])
