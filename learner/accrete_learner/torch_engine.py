"""The PyTorch engine, which rebuilds the backbone that was trained and runs it on the CPU or on CUDA."""

from __future__ import annotations

import logging
from typing import Any

import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load as load_state

from accrete_learner.backbones import build
from accrete_learner.config import ModelConfig
from accrete_learner.cuda_graphs import CapturedBackbone, CaptureError
from accrete_model.card import ModelCard
from accrete_model.config import EngineConfig
from accrete_model.engines.base import CPU_BATCH, doubling, run_in_parts, run_padded
from accrete_model.errors import LoadError
from accrete_model.files import WEIGHTS_FILE
from accrete_model.reader import Artifact
from accrete_model.vectors import Floats

_log = logging.getLogger(__name__)


class TorchEngine:
    """Runs the backbone in float32, in inference mode; on CUDA as captured graphs where it can be captured."""

    def __init__(self, artifact: Artifact, config: EngineConfig, *, graphs: bool = True) -> None:
        """Build the backbone on the device.

        Args:
            artifact: of the version.
            config: which device to use, and how.
            graphs: whether to capture the backbone on CUDA; False is for comparison.

        Raises:
            LoadError: (stage "engine") when the device is not there or the weights do not fit the backbone.
        """
        self._device = _device(config)
        if not self.on_gpu:
            torch.set_num_threads(config.threads)
        self._backbone = _backbone(artifact).to(self._device).eval().requires_grad_(False)
        self._limit = config.max_batch if self.on_gpu else CPU_BATCH
        # Vectors pass through as they are: there is nothing to capture.
        self._captured = self._capture(artifact) if graphs and self.on_gpu and artifact.card.spec.is_image else None

    @property
    def name(self) -> str:
        """The library and the device, and whether it replays captured graphs."""
        return f"torch {self._device.type}" + (" graphs" if self._captured is not None else "")

    @property
    def on_gpu(self) -> bool:
        """Whether it runs on CUDA."""
        return self._device.type == "cuda"

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """On CUDA the sizes that batches are padded to, on a CPU the smallest and the largest."""
        return doubling(self._limit) if self.on_gpu else (1, self._limit)

    def run(self, batch: NDArray[Any]) -> Floats:
        """Return features [N, d] of the batch [N, *input shape]."""
        return run_in_parts(self._padded if self.on_gpu else self._run, batch, self._limit)

    def close(self) -> None:
        """Free the backbone's memory."""
        del self._captured, self._backbone
        if self.on_gpu:
            torch.cuda.empty_cache()

    def _padded(self, batch: NDArray[Any]) -> Floats:
        return run_padded(self._run if self._captured is None else self._captured, batch, self.batch_sizes)

    def _capture(self, artifact: Artifact) -> CapturedBackbone | None:
        """The captured backbone; None, with a warning, where it computes as well without."""
        spec = artifact.card.spec
        try:
            return CapturedBackbone(self._backbone, spec.shape, getattr(torch, spec.dtype), self.batch_sizes)
        except CaptureError as error:
            _log.warning("graphs_not_captured", extra={"reason": str(error)})
            return None

    def _run(self, batch: NDArray[Any]) -> Floats:
        # torch.tensor copies: the batch may be a read-only view of a request's bytes, which from_numpy warns about.
        with torch.inference_mode():
            features: Floats = self._backbone(torch.tensor(batch, device=self._device)).float().cpu().numpy()
        return features


def _device(config: EngineConfig) -> torch.device:
    available = torch.cuda.is_available()
    if config.device == "cuda" and not available:
        raise LoadError("engine", "device = cuda, but PyTorch finds no CUDA device")
    return torch.device("cuda" if available and config.device != "cpu" else "cpu")


def _backbone(artifact: Artifact) -> torch.nn.Module:
    data = artifact.read(WEIGHTS_FILE)
    try:
        card = artifact.card
        backbone: torch.nn.Module = build(_network(card), last_relu=card.last_relu, features=card.features)
        backbone.load_state_dict(load_state(data))
    except (SafetensorError, ValueError, RuntimeError, KeyError) as error:
        raise LoadError("engine", f"{WEIGHTS_FILE}: {error}") from error
    return backbone


def _network(card: ModelCard) -> ModelConfig:
    if not card.spec.is_image:
        return ModelConfig(backbone=card.backbone, embedding=card.spec.shape[0])
    height, width, channels = card.spec.shape
    if height != width:
        raise LoadError("engine", f"input {card.spec}: the backbones take square images")
    return ModelConfig(backbone=card.backbone, input_size=height, channels=channels)
