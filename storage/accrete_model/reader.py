"""Reads the files of a version and checks that they fit together.

Shapes: C classes, d feature length, G golden inputs, H hold-out examples.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors

from accrete_model import files
from accrete_model.card import ModelCard
from accrete_model.errors import LoadError
from accrete_model.rules import Rule, read_rule
from accrete_model.rules.base import Take, take_from
from accrete_model.vectors import Floats


@dataclass(frozen=True, kw_only=True)
class Golden:
    """Inputs with the outputs that the trainer computed for them."""

    input: NDArray[Any] | None  # [G, *spec.shape]; None: they are with the frozen backbone
    features: Floats  # [G, d]
    probabilities: Floats  # [G, C]


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """One model version on disk, read and checked; graph and backbone weights stay files until an engine wants them."""

    path: Path
    card: ModelCard
    rule: Rule
    """By which it scores."""
    means: Floats  # [C, d], unit length
    golden: Golden
    nearness: Floats
    """Cosine of each hold-out example to the mean that is nearest, ascending [H]; empty where none was measured."""

    def read(self, name: str) -> bytes:
        """Return the bytes of one of its files.

        Raises:
            LoadError: (stage "read") when it is missing or cannot be read.
        """
        return _read(self.path, name)


def read_artifact(path: Path) -> Artifact:
    """Read the files in a version's folder.

    Raises:
        LoadError: (stage "read") naming the file when one is missing, malformed, of another schema, of a wrong shape or
            holds values that are not finite.
    """
    card, head = read_card(path), _tensors(path, files.HEAD_FILE)
    classes, length = len(card.labels), card.feature_length
    rule = read_rule(
        card.rule,
        card.head,
        head,
        partial(_tensors, path, files.RULE_FILE),
        classes=classes,
        length=length,
        nme_scale=card.nme_scale,
    )
    return Artifact(
        path=path,
        card=card,
        rule=rule,
        means=head("means", (classes, length)),
        golden=_golden(_tensors(path, files.GOLDEN_FILE), card),
        nearness=_nearness(path),
    )


def read_card(path: Path) -> ModelCard:
    """Read model.json in a version's folder.

    Raises:
        LoadError: (stage "read") when it is missing, of another schema, or makes no sense.
    """
    return ModelCard.from_json(_read(path, files.MODEL_FILE))


def _nearness(path: Path) -> Floats:
    """Versions without a hold-out, and those of earlier releases, have no such file."""
    if not (path / files.HOLDOUT_FILE).exists():
        return np.zeros(0, np.float32)
    return np.sort(_tensors(path, files.HOLDOUT_FILE)("nearness", (None,)))


def _read(path: Path, name: str) -> bytes:
    try:
        return (path / name).read_bytes()
    except OSError as error:
        raise LoadError("read", f"{name}: {error.strerror}") from error


def _tensors(path: Path, name: str) -> Take:
    try:
        return take_from(name, load_tensors(_read(path, name)))
    except (SafetensorError, ValueError, KeyError) as error:
        raise LoadError("read", f"{name}: {error}") from error


def _golden(take: Take, card: ModelCard) -> Golden:
    inputs = None if card.frozen else take("input", (None, *card.spec.shape), card.spec.dtype)
    features = take("features", (None if inputs is None else len(inputs), card.feature_length))
    if not len(features):
        raise LoadError("read", f"{files.GOLDEN_FILE}: no input")
    return Golden(
        input=inputs,
        features=features,
        probabilities=take("probabilities", (len(features), len(card.labels))),
    )
