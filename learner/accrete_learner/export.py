"""From a finished network to the files that a server loads.

Shapes: N examples, H x W pixels, C channels, d feature length.
"""

import copy
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from accrete_kit.atomic_file import write_json
from accrete_learner.backbones import Backbone
from accrete_learner.config import ModelConfig
from accrete_learner.evaluate import NME_SCALE, extract, head_kind, scores
from accrete_learner.onnx_graph import write_graph

MODEL_FILE = "model.json"
GRAPH_FILE = "graph.onnx"
WEIGHTS_FILE = "weights.safetensors"
HEAD_FILE = "head.safetensors"
#: Only in the artifact of a rule that is fitted on features.
RULE_FILE = "rule.safetensors"
GOLDEN_FILE = "golden.safetensors"

SCHEMA = 1
#: Examples whose answers travel with the artifact.
GOLDEN_EXAMPLES = 8


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A finished model, before it has a version's manifest."""

    backbone: Backbone
    head: Mapping[str, Tensor]
    """`weight` and what else `evaluate.head_scores` reads, `means` [C, d], and what only the next step reads."""
    labels: tuple[str, ...]
    model: ModelConfig
    method: str
    rule: str
    """"head", "nme", or one of `rules.RULES`."""
    rule_tensors: Mapping[str, Tensor] = field(default_factory=dict)
    """What `rules.fit` made; empty for "head" and "nme"."""
    last_relu: bool = False
    """As the backbone was built, so that it can be built again."""

    def probabilities(self, features: Tensor) -> Tensor:
        """[N, C] by the candidate's rule."""
        return scores(self.rule, features, self.head, self.rule_tensors).softmax(1)


def write(folder: Path, candidate: Candidate, examples: Tensor, parent: Path | None = None) -> None:
    """Writes the artifact's files, without a manifest, into `folder`, which it makes.

    Args:
        folder: must not exist.
        candidate: is left as it is.
        examples: at least one, in the model's input form: their answers become the golden outputs. They stay in the
            artifact, so they should be nobody's.
        parent: folder of an artifact of the same network, if there is one; only its graph is read.

    Raises:
        ValueError: when a weight is not finite: such a model must never be seen by a server.
    """
    served = _served(candidate)
    _check_finite(served)
    folder.mkdir(parents=True)
    write_json(folder / MODEL_FILE, _description(served))
    write_graph(served.backbone, folder / GRAPH_FILE, None if parent is None else parent / GRAPH_FILE)
    write_tensors(folder / WEIGHTS_FILE, served.backbone.state_dict())
    write_tensors(folder / HEAD_FILE, served.head)
    if served.rule_tensors:
        write_tensors(folder / RULE_FILE, served.rule_tensors)
    write_tensors(folder / GOLDEN_FILE, _golden(served, examples))


def check_exportable(backbone: Backbone) -> None:
    """Exports a copy to nowhere: better to learn before the training than after it that it cannot be served.

    Raises:
        ValueError: see `write_graph`.
    """
    with tempfile.TemporaryDirectory() as folder:
        write_graph(_servable(backbone), Path(folder) / GRAPH_FILE)


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Writes a safetensors file, from any device and memory order.

    The library's own writer makes files that only their owner can read, whatever the umask says; a server may run as
    another user.
    """
    path.write_bytes(save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}))


def _served(candidate: Candidate) -> Candidate:
    return replace(
        candidate,
        backbone=_servable(candidate.backbone),
        head=_plain(candidate.head),
        rule_tensors=_plain(candidate.rule_tensors),
    )


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """On the CPU, and float32 unless they are whole numbers."""
    moved = {name: tensor.detach().cpu() for name, tensor in tensors.items()}
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in moved.items()}


def _servable(backbone: Backbone) -> Backbone:
    """A copy as it will be served: float32 on the CPU, evaluation mode, plain memory order."""
    served = copy.deepcopy(backbone).cpu().float().to(memory_format=torch.contiguous_format)
    return served.eval().requires_grad_(False)


def _check_finite(candidate: Candidate) -> None:
    for tensors in (candidate.backbone.state_dict(), candidate.head, candidate.rule_tensors):
        for name, tensor in tensors.items():
            if not torch.isfinite(tensor).all():
                raise ValueError(f"the trained {name!r} is not finite")


def _description(candidate: Candidate) -> dict[str, Any]:
    model = candidate.model
    return {
        "schema": SCHEMA,
        "backbone": model.backbone,
        "last_relu": candidate.last_relu,
        "input": {"shape": list(model.input_shape), "dtype": model.input_dtype},
        "feature_length": candidate.backbone.feature_length,
        "labels": list(candidate.labels),
        "head": head_kind(candidate.head),
        "rule": candidate.rule,
        "method": candidate.method,
        "nme_scale": NME_SCALE,
    }


def _golden(candidate: Candidate, examples: Tensor) -> dict[str, Tensor]:
    chosen = torch.arange(GOLDEN_EXAMPLES) % len(examples)
    x = examples.cpu()[chosen]
    features = extract(candidate.backbone, x)
    return {"input": x, "features": features, "probabilities": candidate.probabilities(features)}
