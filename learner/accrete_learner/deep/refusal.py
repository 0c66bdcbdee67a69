"""Whether deep steps are possible at all. Without torch."""

import importlib.util

from accrete_kit.free_memory import free_memory
from accrete_learner.backbone_names import EFFICIENTNET
from accrete_learner.config import DeepConfig, MethodConfig, ModelConfig
from accrete_learner.method_names import ANALYTIC


def refusal(model: ModelConfig, method: MethodConfig, deep: DeepConfig) -> str:
    """Return why no deep step is made with these settings, a sentence for people, or "" where it is."""
    if method.name != ANALYTIC:
        return f"method.name = {method.name!r}: its steps train the backbone; a deep step is for {ANALYTIC!r} alone"
    if model.backbone != EFFICIENTNET:
        return f"model.backbone = {model.backbone!r}: a deep step can train {EFFICIENTNET} alone"
    if deep.steps == "off":
        return "deep.steps = 'off': no deep step is made"
    return ""


def missing(model: ModelConfig) -> str:
    """Return what this machine lacks to train now, a sentence for people, or "" where it lacks nothing."""
    if importlib.util.find_spec("torch") is None:
        return (
            'a deep step needs PyTorch, which is not installed where the learner runs (pip install "accrete[server]")'
        )
    needed, free = _needed(model), free_memory()
    if free is not None and free < needed:
        return f"a deep step takes about {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free"
    return ""


def _needed(model: ModelConfig) -> float:
    """Return the bytes that training takes, measured with batches of 32: PyTorch's own, and those of the images."""
    return 0.7e9 + 2.3e9 * (model.input_size / 224) ** 2
