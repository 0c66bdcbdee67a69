"""`accrete backbones` says which backbones there are, and what they cost on this machine."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from typing import Any

from accrete.cli.output import table, to_json
from accrete_kit.dependencies import installed
from accrete_learner.backbone_names import EFFICIENTNET, ONNX, is_frozen, torchvision_names
from accrete_learner.config import IDENTITY, ModelConfig
from accrete_node.exit_status import CANNOT_START
from accrete_node.libraries import NEEDS_TORCH
from accrete_node.settings import Settings

_TRAINED = ("resnet32", "resnet8")
_HEADERS = ("backbone", "features", "input", "size", "licence", "ms/image")
_MEGABYTE = 1_000_000


def show(settings: Settings, names: Sequence[str], *, as_json: bool) -> int:
    """Measure the backbones `names`, or those of Accrete and the settings where there are none, and print them.

    Returns:
        The exit status: 2 when one could not be built; the others are printed then too.
    """
    chosen = list(names) or _usual(settings)
    measured, problems = [], []
    for name in chosen:
        try:
            measured.append(_measured(_model(settings, name)))
        except ValueError as error:
            problem = str(error)
            problems.append(problem if problem.startswith("model.") else f"model.{problem}")
    if as_json:
        print(to_json(measured))
    else:
        if measured:
            print(table(_HEADERS, [_row(one) for one in measured]))
        if not names:
            print(_others())
    for problem in problems:
        print(f"accrete: {problem}", file=sys.stderr)
    return CANNOT_START if problems else 0


def _usual(settings: Settings) -> list[str]:
    own = settings.model.backbone
    usual = [EFFICIENTNET, *(_TRAINED if installed("torch") else ())]
    return [*usual, *([own] if own not in usual and own != IDENTITY else [])]


def _model(settings: Settings, name: str) -> ModelConfig:
    """Return the settings' model with another backbone, at its own size unless it is the one that they are for."""
    if name == settings.model.backbone:
        return settings.model
    if name == IDENTITY:
        raise ValueError(f"backbone = {name!r}: the application computes it, and there is nothing to measure")
    if name.startswith(ONNX):
        return dataclasses.replace(settings.model, backbone=name, input_size=0, shorter_side=None, weights="")
    return ModelConfig(backbone=name)


def _measured(model: ModelConfig) -> dict[str, Any]:
    if not is_frozen(model.backbone) and not installed("torch"):
        raise ValueError(f"backbone = {model.backbone!r}: it has to be trained, and that {NEEDS_TORCH}")
    config = json.dumps(dataclasses.asdict(model))
    command = [sys.executable, "-m", "accrete_learner.measure_backbone", config]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        told = done.stdout.strip() or (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ValueError(told if " = " in told else f"backbone = {model.backbone!r}: {told}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _row(one: dict[str, Any]) -> tuple[object, ...]:
    size = f"{one['bytes'] / _MEGABYTE:.1f} MB"
    return one["name"], one["features"], one["input"], size, one["licence"] or None, f"{one['milliseconds']:.1f}"


def _others() -> str:
    known = sorted(torchvision_names())
    lines = [
        f"{IDENTITY}: the application sends feature vectors of a length of its own (model.embedding)",
        f"{ONNX}FILE: any network from images to features; `accrete backbones {ONNX}FILE` measures it",
    ]
    if installed("torch"):
        lines.append(f"torchvision has {len(known)}; `accrete backbones NAME` measures one: {', '.join(known)}")
    else:
        lines.append(f"{', '.join(_TRAINED)} and torchvision's: a network that is trained {NEEDS_TORCH}")
    return "\n" + "\n".join(line for text in lines for line in textwrap.wrap(text, 100, subsequent_indent="  "))
