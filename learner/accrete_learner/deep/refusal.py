"""Whether deep steps are possible at all. Without torch."""

import importlib.util

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


def missing() -> str:
    """Return what this process lacks to train, a sentence for people, or "" where it lacks nothing."""
    if importlib.util.find_spec("torch") is None:
        return (
            'a deep step needs PyTorch, which is not installed where the learner runs (pip install "accrete[server]")'
        )
    return ""
