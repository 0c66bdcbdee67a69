"""Versions to serve that nobody trained: what they answer costs the same."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from accrete_learner import backbones, export
from accrete_learner.config import ModelConfig
from benchmarks.gpu.settings import Settings
from benchmarks.noise import noise

CLASSES = 100


def served(settings: Settings) -> dict[str, ModelConfig]:
    """Return the networks to serve, by name."""
    if settings.tiny:
        return {"resnet8 at 16": ModelConfig(backbone="resnet8", input_size=16)}
    return {
        "resnet32 at 32": ModelConfig(),
        "resnet18 at 224": ModelConfig(backbone="resnet18", input_size=224),
        "resnet50 at 224": ModelConfig(backbone="resnet50", input_size=224),
    }


def artifact(settings: Settings, network: ModelConfig, seed: int = 1) -> Path:
    """Return a version's folder, written now unless an earlier call has."""
    folder = settings.work / "artifacts" / f"{network.backbone}-{network.input_size}-{seed}"
    if not folder.exists():
        making = folder.with_name(f"{folder.name}.making")
        shutil.rmtree(making, ignore_errors=True)
        making.parent.mkdir(parents=True, exist_ok=True)
        export.write(making, candidate(network, CLASSES, seed), torch.from_numpy(noise(8, network.input_shape)))
        making.rename(folder)
    return folder


def candidate(network: ModelConfig, classes: int, seed: int) -> export.Candidate:
    """Return an untrained model."""
    generator = torch.Generator().manual_seed(seed)
    backbone = backbones.build(network, generator=generator).eval()
    rows = torch.randn(classes, backbone.feature_length, generator=generator)
    head = {"weight": rows, "scale": torch.tensor([10.0]), "means": torch.nn.functional.normalize(rows)}
    labels = tuple(f"class {number}" for number in range(classes))
    return export.Candidate(backbone=backbone, head=head, labels=labels, model=network, method="lucir", rule="head")
