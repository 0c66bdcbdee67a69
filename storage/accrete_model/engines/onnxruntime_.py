"""The ONNX Runtime engine, which runs graph.onnx on the CPU or on CUDA."""

from __future__ import annotations

import ctypes
import logging
import os
from typing import Any

import onnxruntime
from numpy.typing import NDArray

from accrete_model.config import EngineConfig
from accrete_model.engines.base import CPU_BATCH, doubling, run_in_parts, run_padded
from accrete_model.errors import LoadError
from accrete_model.files import GRAPH_FILE
from accrete_model.reader import Artifact
from accrete_model.vectors import Floats

_CUDA = "CUDAExecutionProvider"
_CPU = "CPUExecutionProvider"
_QUIET = 3  # ONNX Runtime's level for errors; of its warnings about providers we log one of our own

_log = logging.getLogger(__name__)


class GraphEngine:
    """Runs a graph's features on the first provider that truly starts."""

    def __init__(self, graph: bytes, config: EngineConfig) -> None:
        """Load the graph.

        Args:
            graph: ONNX from "input" to "features", with all its tensors.
            config: where and how to run it.

        Raises:
            LoadError: (stage "engine") when it cannot be run, or not on the device that was asked for.
        """
        self._session = session(graph, config)
        self._provider: str = self._session.get_providers()[0]
        _check_graph(self._session)
        if config.device == "cuda" and self._provider != _CUDA:
            raise LoadError(
                "engine",
                f"device = cuda, but ONNX Runtime runs on {self._provider}: its CUDA provider did not start "
                f"(driver found: {cuda_driver_found()}; built in: {cuda_built_in()})",
            )
        if config.device == "auto" and self._provider != _CUDA and cuda_driver_found():
            _log.warning("cuda.not_used", extra={"provider": self._provider})
        self._limit = config.max_batch if self.on_gpu else CPU_BATCH

    @property
    def name(self) -> str:
        """The library and the provider in use."""
        return f"onnxruntime {self._provider}"

    @property
    def on_gpu(self) -> bool:
        """Whether it runs on CUDA."""
        return self._provider == _CUDA

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """On CUDA the sizes that batches are padded to, on a CPU the smallest and the largest."""
        return doubling(self._limit) if self.on_gpu else (1, self._limit)

    def run(self, batch: NDArray[Any]) -> Floats:
        """Return features [N, d] of the batch [N, *input shape]."""
        return run_in_parts(self._padded if self.on_gpu else self._run, batch, self._limit)

    def close(self) -> None:
        """Free the session."""
        del self._session

    def _padded(self, batch: NDArray[Any]) -> Floats:
        return run_padded(self._run, batch, self.batch_sizes)

    def _run(self, batch: NDArray[Any]) -> Floats:
        features: Floats = self._session.run(["features"], {"input": batch})[0]
        return features


class OnnxRuntimeEngine(GraphEngine):
    """Runs the graph of one version."""

    def __init__(self, artifact: Artifact, config: EngineConfig) -> None:
        """Load the graph in the version's files. Raises LoadError as `GraphEngine` does."""
        super().__init__(artifact.read(GRAPH_FILE), config)


def session(graph: bytes, config: EngineConfig) -> Any:
    """Return a session over the graph's bytes, which must have all tensors; no file that they name is looked for.

    Raises:
        LoadError: (stage "engine") when ONNX Runtime refuses it.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = config.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _QUIET
    # Idle threads must not spin on cores that the trainer and other requests use.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Without this, a file would be looked for in the process's working directory; below a device there can be none.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    try:
        return onnxruntime.InferenceSession(graph, options, providers=_providers(config))
    except Exception as error:  # ONNX Runtime raises a dozen kinds of its own, all straight from Exception
        raise LoadError("engine", f"{GRAPH_FILE}: {error}") from error


def _providers(config: EngineConfig) -> list[Any]:
    wanted = config.device == "cuda" or (config.device == "auto" and cuda_driver_found())
    if not wanted or not cuda_built_in():
        return [_CPU]
    onnxruntime.preload_dlls(directory="")  # the CUDA libraries that pip installed beside it
    # The exhaustive search takes seconds per batch size, and a swap would wait for it.
    # With TF32, outputs would differ from what the trainer and the gate computed.
    return [(_CUDA, {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"}), _CPU]


def cuda_built_in() -> bool:
    """Return whether the installed ONNX Runtime has CUDA at all; there are two packages of it."""
    return _CUDA in onnxruntime.get_available_providers()


def cuda_driver_found() -> bool:
    """Return whether an NVIDIA driver with a device is there, by the driver and not by what a wheel was built with."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int(0)
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0


def _check_graph(session: Any) -> None:
    inputs = [entry.name for entry in session.get_inputs()]
    outputs = [entry.name for entry in session.get_outputs()]
    if inputs != ["input"] or "features" not in outputs:
        raise LoadError("engine", f"{GRAPH_FILE}: takes {inputs} and gives {outputs}, not input and features")
