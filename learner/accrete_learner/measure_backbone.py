"""Says what a backbone is and how long an image takes, in a process of its own: it may need torch.

`python -m accrete_learner.measure_backbone CONFIG`, with the fields of a `ModelConfig` as JSON, prints the fields of a
`MeasuredBackbone` as JSON; exit status 2 and a line on standard output when it cannot be built.
"""

import dataclasses
import json
import statistics
import sys
import time

import numpy as np

from accrete_learner.backbone_names import is_frozen
from accrete_learner.config import ModelConfig
from accrete_model.config import EngineConfig
from accrete_model.engines.onnxruntime_ import GraphEngine

_CANNOT = 2
_WARM = 2
_MEASURED = 15


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeasuredBackbone:
    """What `accrete backbones` tells of one."""

    name: str
    features: int
    """Length of a feature vector."""
    input: str
    bytes: int
    """Of the graph with its weights."""
    licence: str
    """Of the weights; "" where they are trained here, or the user's."""
    milliseconds: float
    """One image on one thread of the CPU, median."""


def measure(model: ModelConfig) -> MeasuredBackbone:
    """Build a backbone of images and run it, one image at a time.

    Raises:
        ValueError: it cannot be built.
    """
    graph, features, licence = _built(model)
    engine = GraphEngine(graph, EngineConfig(device="cpu"))
    image = np.random.default_rng(0).integers(0, 256, (1, *model.input_shape), dtype=np.uint8)
    seconds = []
    for _ in range(_WARM + _MEASURED):
        begun = time.perf_counter()
        engine.run(image)
        seconds.append(time.perf_counter() - begun)
    engine.close()
    return MeasuredBackbone(
        name=model.backbone,
        features=features,
        input=str(model.input_spec),
        bytes=len(graph),
        licence=licence,
        milliseconds=round(1000 * statistics.median(seconds[_WARM:]), 1),
    )


def _built(model: ModelConfig) -> tuple[bytes, int, str]:
    """Return the graph, the feature length and the licence."""
    if is_frozen(model.backbone):
        from accrete_learner.frozen_backbone import frozen_backbone

        frozen = frozen_backbone(model)
        return frozen.graph, frozen.feature_length, frozen.licence
    from accrete_learner.backbones import build  # brings torch
    from accrete_learner.onnx_graph import export_graph

    backbone = build(model).eval().requires_grad_(False)
    return export_graph(backbone), backbone.feature_length, ""


def main(config: str) -> int:
    """Measure and return the exit status."""
    try:
        measured = measure(ModelConfig(**json.loads(config)))
    except (ValueError, OSError, RuntimeError) as error:
        print(" ".join(str(error).split()))
        return _CANNOT
    print(json.dumps(dataclasses.asdict(measured)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
