"""What every peer serves: the same graph and head, on one thread of ONNX Runtime, as Accrete runs them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnxruntime


class Model:
    """ResNet-32 over images uint8 [N, 32, 32, 3], from the folder that the variable PEER_MODEL names."""

    def __init__(self) -> None:
        folder = Path(os.environ["PEER_MODEL"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        providers = ["CPUExecutionProvider"]
        self._session = onnxruntime.InferenceSession(str(folder / "graph.onnx"), options, providers=providers)
        self._rows = np.load(folder / "rows.npy")

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Return probabilities float32 [N, K]."""
        (features,) = self._session.run(["features"], {"input": images})
        scores = features @ self._rows.T
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        return (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)

    def answer(self, body: bytes) -> dict[str, object]:
        """Return the best class of one image as raw bytes, with its probability."""
        shares = self(np.frombuffer(body, np.uint8).reshape(1, 32, 32, 3))[0]
        best = int(shares.argmax())
        return {"label": str(best), "probability": float(shares[best])}
