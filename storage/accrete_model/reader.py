"""Reads an artifact folder and checks that its parts fit together.

Shapes: C classes, d feature length, G golden inputs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors

from accrete_model.errors import LoadError
from accrete_model.input_spec import InputSpec
from accrete_model.rules import FITTED, HEADS, NearestMean, Rule
from accrete_model.rules.base import Take
from accrete_model.vectors import Floats

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What model.json says."""

    backbone: str
    spec: InputSpec
    feature_length: int
    labels: tuple[str, ...]
    head: str
    """One of `HEADS`."""
    rule: str
    """"head", "nme", or one of `FITTED`."""
    method: str
    nme_scale: float
    last_relu: bool = False
    """How the backbone was built; of use to the engine that builds it again."""


@dataclass(frozen=True, kw_only=True)
class Golden:
    """Inputs with the outputs that the trainer computed for them."""

    input: NDArray[Any]  # [G, *spec.shape]
    features: Floats  # [G, d]
    probabilities: Floats  # [G, C]


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """One model version on disk, read and checked; graph and backbone weights stay files until an engine wants them."""

    path: Path
    card: ModelCard
    rule: Rule
    """By which it answers."""
    means: Floats  # [C, d], unit length
    golden: Golden
    nearness: Floats
    """Of each hold-out example to the nearest mean, as a cosine, ascending [H]; empty where none was measured."""

    def read(self, name: str) -> bytes:
        """The bytes of one of its files. Raises LoadError when it is missing or cannot be read."""
        return _read(self.path, name)


def read_artifact(path: Path) -> Artifact:
    """Reads the artifact folder `path`.

    Raises LoadError (stage "read") naming the file when one is missing, malformed, of another schema, of a wrong shape
    or holds values that are not finite.
    """
    card = _card(_read(path, "model.json"))
    take = _tensors(path, "head.safetensors")
    # Read whatever the rule is: a version whose head is damaged is damaged.
    head = HEADS[card.head].read(take, classes=len(card.labels), length=card.feature_length)
    means = take("means", (len(card.labels), card.feature_length))
    golden = _golden(_tensors(path, "golden.safetensors"), card)
    rule = _rule(path, card, head, means)
    return Artifact(path=path, card=card, rule=rule, means=means, golden=golden, nearness=_nearness(path))


def _rule(path: Path, card: ModelCard, head: Rule, means: Floats) -> Rule:
    if card.rule == "head":
        return head
    if card.rule == "nme":
        return NearestMean(means=means, scale=card.nme_scale)
    take = _tensors(path, "rule.safetensors")
    return FITTED[card.rule].read(take, classes=len(card.labels), length=card.feature_length)


def _nearness(path: Path) -> Floats:
    """Versions without a hold-out, and those of earlier releases, have no such file."""
    if not (path / "holdout.safetensors").exists():
        return np.zeros(0, np.float32)
    return np.sort(_tensors(path, "holdout.safetensors")("nearness", (None,)))


def _read(path: Path, name: str) -> bytes:
    try:
        return (path / name).read_bytes()
    except OSError as problem:
        raise LoadError("read", f"{name}: {problem.strerror}") from problem


def _card(data: bytes) -> ModelCard:
    try:
        fields = json.loads(data)
        if fields["schema"] != SCHEMA:
            raise ValueError(f"schema {fields['schema']}; this release reads {SCHEMA}")
        card = ModelCard(
            backbone=str(fields["backbone"]),
            spec=InputSpec(tuple(int(size) for size in fields["input"]["shape"]), fields["input"]["dtype"]),
            feature_length=int(fields["feature_length"]),
            labels=tuple(fields["labels"]),
            head=_one_of(fields, "head", tuple(HEADS)),
            rule=_one_of(fields, "rule", ("head", "nme", *FITTED)),
            method=str(fields["method"]),
            nme_scale=float(fields["nme_scale"]),
            last_relu=bool(fields.get("last_relu", False)),
        )
    except (ValueError, TypeError, KeyError) as problem:
        reason = f"no field {problem}" if isinstance(problem, KeyError) else str(problem)
        raise LoadError("read", f"model.json: {reason}") from problem
    _check_labels(card.labels)
    return card


def _one_of(fields: Mapping[str, Any], name: str, allowed: tuple[str, ...]) -> str:
    if fields[name] not in allowed:
        raise ValueError(f"{name} {fields[name]!r}; known: {', '.join(allowed)}")
    return str(fields[name])


def _check_labels(labels: tuple[str, ...]) -> None:
    if not labels or not all(isinstance(label, str) and label for label in labels):
        raise LoadError("read", "model.json: labels must be texts that are not empty, at least one")
    if len(set(labels)) != len(labels):
        raise LoadError("read", "model.json: a label appears twice")


def _tensors(path: Path, name: str) -> Take:
    """Reads a safetensors file; answers what takes a tensor out by name, shape and type."""
    try:
        tensors = load_tensors(_read(path, name))
    except (SafetensorError, ValueError, KeyError) as problem:
        raise LoadError("read", f"{name}: {problem}") from problem

    def take(
        key: str, shape: tuple[int | None, ...], dtype: str = "float32", *, default: NDArray[Any] | None = None
    ) -> NDArray[Any]:
        tensor = tensors.get(key, default)
        if tensor is None:
            raise LoadError("read", f"{name}: no tensor {key!r}")
        if not _fits(tensor.shape, shape) or tensor.dtype != dtype:
            wanted = f"{dtype} {['any' if size is None else size for size in shape]}"
            raise LoadError("read", f"{name}: {key} is {tensor.dtype} {list(tensor.shape)}, not {wanted}")
        if not np.isfinite(tensor).all():
            raise LoadError("read", f"{name}: {key} holds values that are not finite")
        return tensor

    return take


def _fits(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    return len(shape) == len(wanted) and all(want in (None, have) for want, have in zip(wanted, shape, strict=True))


def _golden(take: Take, card: ModelCard) -> Golden:
    inputs = take("input", (None, *card.spec.shape), card.spec.dtype)
    if not len(inputs):
        raise LoadError("read", "golden.safetensors: no input")
    return Golden(
        input=inputs,
        features=take("features", (len(inputs), card.feature_length)),
        probabilities=take("probabilities", (len(inputs), len(card.labels))),
    )
