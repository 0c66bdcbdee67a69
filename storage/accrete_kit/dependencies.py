"""What libraries may do unasked: reach nothing beyond this machine, and write nothing outside the data directory.

Importing `accrete_kit` silences them, so that nobody can import one of them first and be too late. A variable that is
set already has been asked for, and stays.
"""

import importlib.util
import os
from pathlib import Path

from accrete_kit import cores

SILENT = {
    # ONNX Runtime looks for a telemetry host, and writes a device id and events under the user's cache folder.
    "ORT_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    # scikit-learn brings joblib, which makes a semaphore in /dev/shm to learn whether it could use processes.
    "JOBLIB_MULTIPROCESSING": "0",
}
"""Variables that keep libraries from talking."""

_CACHES = {
    "TORCH_HOME": "torch",
    "PYTORCH_KERNEL_CACHE_PATH": "torch/kernels",
    "TORCHINDUCTOR_CACHE_DIR": "torchinductor",
    "TRITON_CACHE_DIR": "triton",
    "CUDA_CACHE_PATH": "cuda",
    "HF_HOME": "huggingface",
    "MPLCONFIGDIR": "matplotlib",
}
"""By the variable that names it, the folder of a library's cache, which is else the user's or a temporary one."""


def silence() -> None:
    """Keep this process's libraries, and those of its children, from talking to anybody."""
    for name, value in SILENT.items():
        os.environ.setdefault(name, value)


def cache_in(folder: Path) -> None:
    """Have this process's libraries, and those of its children, keep their caches below `folder`, which need not exist.

    To be called before they are imported.
    """
    for name, below in _CACHES.items():
        os.environ.setdefault(name, str(folder.resolve() / below))


def limit_threads() -> None:
    """Have numeric libraries compute on no more threads than a quota allows: they count the machine's cores.

    More would all stand still together once the quota of a period is used up.
    """
    if cores.available() < cores.allowed():
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ.setdefault(name, str(cores.whole()))


def installed(module: str) -> bool:
    """Return whether a module is installed, without importing it: not every install has all libraries."""
    return importlib.util.find_spec(module) is not None
