"""A backbone's forward pass as captured CUDA graphs, one for each batch size.

A small network is hundreds of kernels of a few microseconds, which wait for the host to launch them one by one. A
captured graph launches them all at once. It reads its weights and its input from where they lay when it was captured:
weights must stay as they are, so that a version is captured when it is loaded and dropped with its graphs.
Shapes: N images of a batch, d feature length.
"""

from __future__ import annotations

import threading
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from accrete_model.vectors import Floats

_WARM_UP = 3
"""Passes before a capture, in which libraries choose algorithms and take their work space."""
_TOLERANCE = 1e-3
"""Largest difference from the pass that was captured, relative to its largest feature."""


class CaptureError(RuntimeError):
    """The backbone cannot be captured here, or what was captured computes something else."""


class CapturedBackbone:
    """A backbone on CUDA that runs at the captured batch sizes alone. Thread-safe."""

    def __init__(self, backbone: nn.Module, shape: tuple[int, ...], dtype: torch.dtype, sizes: tuple[int, ...]) -> None:
        """Capture `backbone`, in evaluation mode on the current device, for inputs [N, *shape].

        Raises:
            CaptureError: when one size cannot be captured, or a replay differs from the pass itself.
        """
        self._lock = threading.Lock()
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        pool = torch.cuda.graph_pool_handle()
        try:
            # The graphs share their memory: they run one at a time, and each one's features are copied out before the
            # next begins. The largest comes first, so that the others fit into what it took.
            captured = [_Pass(backbone, (size, *shape), dtype, stream, pool) for size in sorted(sizes, reverse=True)]
            for one in captured:
                one.check(backbone)
        except CaptureError:
            raise
        except Exception as error:  # CUDA's libraries raise kinds of their own, most of them plain RuntimeErrors
            raise CaptureError(f"{type(error).__name__}: {error}") from error
        self._passes = {one.size: one for one in captured}

    def __call__(self, batch: NDArray[Any]) -> Floats:
        """Return features [N, d] of a batch [N, *shape] of one of the captured sizes."""
        with self._lock, torch.inference_mode():
            return self._passes[len(batch)](batch)


class _Pass:
    """One batch size."""

    def __init__(
        self,
        backbone: nn.Module,
        shape: tuple[int, ...],
        dtype: torch.dtype,
        stream: torch.cuda.Stream,
        pool: Any,
    ) -> None:
        self.size = shape[0]
        with torch.inference_mode():
            # Copies from pinned memory need no second one in the driver.
            self._sent = torch.zeros(shape, dtype=dtype, pin_memory=True)
            self._sent_view = self._sent.numpy()
            self._input = torch.zeros(shape, dtype=dtype, device="cuda")
            self._graph = torch.cuda.CUDAGraph()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(_WARM_UP):
                    backbone(self._input)
                # Of this thread alone: the live version computes on another one meanwhile. torch.cuda.graph would also
                # empty the allocator's cache, which that thread is using.
                self._graph.capture_begin(pool=pool, capture_error_mode="thread_local")
                try:
                    self._output: Tensor = backbone(self._input).float()
                finally:
                    self._graph.capture_end()
            torch.cuda.current_stream().wait_stream(stream)

    def __call__(self, batch: NDArray[Any]) -> Floats:
        self._sent_view[...] = batch
        self._input.copy_(self._sent, non_blocking=True)
        self._graph.replay()
        features: Floats = self._output.cpu().numpy()  # waits for the replay
        return features

    def check(self, backbone: nn.Module) -> None:
        """Raise CaptureError unless a replay on new input computes what the backbone computes."""
        with torch.inference_mode():
            generator = torch.Generator().manual_seed(self.size)
            noise = torch.randint(256, self._sent.shape, generator=generator).to(self._sent.dtype)
            got = torch.from_numpy(self(noise.numpy()))
            wanted = backbone(self._input).float().cpu()
        largest = float(wanted.abs().max())
        apart = float((got - wanted).abs().max())
        if not apart <= _TOLERANCE * max(largest, 1e-6):
            raise CaptureError(f"at batch {self.size} a replay differs by {apart:.3g} of {largest:.3g}")
