"""Triton Inference Server, by PyTriton, which binds a Python function to it; batching is its own dynamic batcher."""

from __future__ import annotations

import os

import numpy as np
from model import BATCH, BATCH_WAIT_S, SIDE, Model, image_of
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

FILES = os.environ["PEER_FORM"] == "file"
MODEL = Model()


@batch
def pixels(image: np.ndarray) -> dict[str, np.ndarray]:
    """Takes `image` uint8 [N, SIDE, SIDE, 3], gives `probabilities` float32 [N, K]."""
    return {"probabilities": MODEL(image)}


@batch
def files(image: np.ndarray) -> dict[str, np.ndarray]:
    """Takes `image`, files [N, 1]."""
    return {"probabilities": MODEL(np.stack([image_of(file) for file in image.ravel()]))}


if __name__ == "__main__":
    given = Tensor(name="image", dtype=bytes, shape=(1,)) if FILES else None
    config = TritonConfig(
        grpc_address="127.0.0.1", grpc_port=int(os.environ["PEER_PORT"]), allow_http=False, allow_metrics=False
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name="accrete",
            infer_func=files if FILES else pixels,
            inputs=[given or Tensor(name="image", dtype=np.uint8, shape=(SIDE, SIDE, 3))],
            outputs=[Tensor(name="probabilities", dtype=np.float32, shape=(-1,))],
            config=ModelConfig(
                max_batch_size=max(1, BATCH),
                batching=True,
                batcher=DynamicBatcher(max_queue_delay_microseconds=int(1e6 * BATCH_WAIT_S) if BATCH else 0),
            ),
        )
        triton.serve()
