"""Finds out at a start whether the libraries that the settings need are installed, and says which extra has them."""

from __future__ import annotations

from accrete_kit.dependencies import installed
from accrete_learner.method_names import ANALYTIC
from accrete_node.settings import Settings, SettingsError

NEEDS_TORCH = 'needs PyTorch, which is not installed (pip install "accrete[server]")'
_CLOSED_FORM = ("onnx", "scipy", "threadpoolctl")


def check_learning(settings: Settings) -> None:
    """Look whether what learns is installed.

    Raises:
        SettingsError: naming the setting, its value and what to install.
    """
    check_bucket(settings)
    method = settings.method.name
    if method != ANALYTIC and not installed("torch"):
        reason = f"it trains a network, and that {NEEDS_TORCH}; {ANALYTIC!r} learns without"
        raise SettingsError([f"method.name = {method!r}: {reason}"])
    missing = [name for name in _CLOSED_FORM if not installed(name)]
    if method == ANALYTIC and missing:
        reason = f'it needs {", ".join(missing)}, not installed here (pip install "accrete[light]")'
        raise SettingsError([f"method.name = {method!r}: {reason}"])


def check_bucket(settings: Settings) -> None:
    """Look whether what reaches a bucket is installed, where the settings name one.

    Raises:
        SettingsError: naming the setting, its value and what to install.
    """
    url = settings.artifacts.url
    if url and not installed("obstore"):
        reason = 'it needs obstore, which is not installed (pip install "accrete[bucket]")'
        raise SettingsError([f"artifacts.url = {url!r}: {reason}"])


def check_serving(settings: Settings) -> None:
    """Look whether what serves is installed.

    Raises:
        SettingsError: naming the setting, its value and what to install.
    """
    check_bucket(settings)
    engine = settings.engine
    if engine.engine == "torch" and not installed("torch"):
        raise SettingsError([f"engine.engine = 'torch': it {NEEDS_TORCH}; 'onnxruntime' serves without"])
    if engine.device == "cuda" and engine.engine == "onnxruntime":
        from accrete_model.engines.onnxruntime_ import cuda_built_in  # brings ONNX Runtime

        if not cuda_built_in():
            reason = (
                "the ONNX Runtime that is installed is the one for CPUs; in an environment without the package "
                'onnxruntime, pip install "accrete[server]" brings the one with CUDA'
            )
            raise SettingsError([f"engine.device = 'cuda': {reason}"])
