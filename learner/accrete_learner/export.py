"""From a finished network to the arrays and the graph of a version's files, which `accrete_model.writer` writes.

Shapes: N examples, C classes, d feature length.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from accrete_learner.backbones import Backbone
from accrete_learner.config import ModelConfig
from accrete_learner.evaluate import arrays, extract
from accrete_learner.onnx_graph import export_graph
from accrete_model import writer
from accrete_model.card import ModelCard
from accrete_model.files import GRAPH_FILE
from accrete_model.rules import head_kind

GOLDEN_EXAMPLES = 8
"""Examples whose outputs are kept in a version's files."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A finished model that no number of a version names yet."""

    backbone: Backbone
    head: Mapping[str, Tensor]
    """What `accrete_model.rules.HEADS` reads, `means` [C, d], and what only the next step reads."""
    labels: tuple[str, ...]
    model: ModelConfig
    method: str
    rule: str
    """One of `accrete_model.rules.UNFITTED` or `FITTED`."""
    rule_tensors: Mapping[str, Tensor] = field(default_factory=dict)
    """What `fitting.fit` returned; empty for a rule that is not fitted."""
    last_relu: bool = False
    """As the backbone was built, so that it can be built again."""

    @property
    def card(self) -> ModelCard:
        """What model.json says of it."""
        return ModelCard(
            backbone=self.model.backbone,
            spec=self.model.input_spec,
            feature_length=self.backbone.feature_length,
            labels=self.labels,
            head=head_kind(self.head),
            rule=self.rule,
            method=self.method,
            last_relu=self.last_relu,
            features=self.backbone.features,
        )


def write(folder: Path, candidate: Candidate, examples: Tensor, parent: Path | None = None) -> None:
    """Write a candidate's files, without a manifest.

    Args:
        folder: is made, and must not exist.
        candidate: is left as it is.
        examples: at least one, in the model's input form; their outputs become the golden outputs. They stay in the
            files, so they should be nobody's.
        parent: folder of a version with the same network, if there is one; only its graph is read.

    Raises:
        ValueError: when a weight is not finite, which no server must ever see, or ONNX has no form for the network.
        OSError: when a file cannot be read or written.
    """
    backbone = _servable(candidate.backbone)
    golden = examples.cpu()[torch.arange(GOLDEN_EXAMPLES) % len(examples)]
    writer.write_artifact(
        folder,
        candidate.card,
        graph=export_graph(
            backbone,
            None if parent is None else parent / GRAPH_FILE,
            network=(candidate.model, candidate.last_relu, backbone.features),
        ),
        weights={name: tensor.numpy() for name, tensor in backbone.state_dict().items()},
        head=arrays(candidate.head),
        fitted=arrays(candidate.rule_tensors),
        golden_input=golden.numpy(),
        golden_features=extract(backbone, golden).numpy(),
    )


def check_exportable(backbone: Backbone, model: ModelConfig, *, last_relu: bool) -> None:
    """Export a copy to nowhere, since that a network cannot be served is better known before its training than after.

    Args:
        backbone: as it was built.
        model: by which it was built.
        last_relu: likewise.

    Raises:
        ValueError: when ONNX has no form for one of the backbone's layers at this image size.
    """
    export_graph(_servable(backbone), network=(model, last_relu, backbone.features))


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file, from any device and memory order, with the permissions that the umask leaves."""
    writer.write_tensors(path, {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()})


def _servable(backbone: Backbone) -> Backbone:
    """Return a copy as it will be served: float32 on the CPU, in evaluation mode, in plain memory order."""
    served = copy.deepcopy(backbone).cpu().float().to(memory_format=torch.contiguous_format)
    return served.eval().requires_grad_(False)
