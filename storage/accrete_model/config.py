"""How a version is computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Le


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """Choice of engine and of what it may use."""

    engine: Literal["onnxruntime", "torch"] = "onnxruntime"
    """What runs the backbone. ONNX Runtime: four to five times as fast as eager PyTorch on one CPU thread.
    A frozen backbone runs in ONNX Runtime whatever is set."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where it runs. "auto": CUDA when it truly starts, else the CPU. "cuda": CUDA or an error."""

    threads: Annotated[int, Ge(1), Le(256)] = 1
    """CPU threads for one computation. 1: several requests share the cores better than one request's threads do."""

    max_batch: Annotated[int, Ge(1), Le(4096)] = 64
    """Images computed at once on CUDA; longer batches are cut. 64: one full request of the default `max_images`."""
