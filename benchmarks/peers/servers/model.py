"""What every peer serves: the same graph and head, on one thread of ONNX Runtime, as Accrete runs them.

An image is its bytes: pixels uint8 [H, W, 3], or a file (PEER_FORM), which is decoded with Pillow to the form that the
network was made for, as the frameworks' own examples do.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

SIDE = int(os.environ["PEER_SIDE"])
"""Pixels of height and width."""
BATCH = int(os.environ["PEER_BATCH"])
"""Images that the framework may compute together; 0: its batching is off."""
BATCH_WAIT_S = 0.005
"""How long it may wait for them."""
_FILES = os.environ["PEER_FORM"] == "file"
_SHORTER = SIDE * 8 // 7


class Model:
    """The network over images, from the folder that the variable PEER_MODEL names."""

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
        """Return probabilities float32 [N, K] of images uint8 [N, SIDE, SIDE, 3]."""
        (features,) = self._session.run(["features"], {"input": images})
        scores = features @ self._rows.T
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        return (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)

    def answers(self, bodies: Sequence[bytes]) -> list[dict[str, object]]:
        """Return the best class of each image, with its probability."""
        found = []
        for shares in self(np.stack([image_of(body) for body in bodies])):
            best = int(shares.argmax())
            found.append({"label": str(best), "probability": float(shares[best])})
        return found

    def answer(self, body: bytes) -> dict[str, object]:
        """Return the same of one image."""
        return self.answers([body])[0]


def image_of(body: bytes) -> np.ndarray:
    """Return uint8 [SIDE, SIDE, 3]: of a file the middle, once its shorter side has 8/7 of that."""
    if not _FILES:
        return np.frombuffer(body, np.uint8).reshape(SIDE, SIDE, 3)
    image = Image.open(io.BytesIO(body))
    image.draft("RGB", (2 * _SHORTER, 2 * _SHORTER))
    image = image.convert("RGB")
    scale = min(image.size) / _SHORTER
    left, top = ((length - SIDE * scale) / 2 for length in image.size)
    box = (left, top, image.width - left, image.height - top)
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box))
