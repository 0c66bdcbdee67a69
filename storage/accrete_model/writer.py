"""Writes the files of a new version; `ArtifactStore.publish` adds the manifest.

Shapes: C classes, d feature length, G golden inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from accrete_model import files
from accrete_model.card import ModelCard
from accrete_model.rules import read_rule
from accrete_model.rules.base import take_from
from accrete_model.vectors import Floats, softmax

Arrays = Mapping[str, NDArray[Any]]


def write_artifact(
    folder: Path,
    card: ModelCard,
    *,
    graph: bytes,
    weights: Arrays,
    head: Arrays,
    fitted: Arrays,
    golden_input: NDArray[Any],
    golden_features: Floats,
) -> None:
    """Write a version's files, without a manifest.

    Args:
        folder: is made, and must not exist.
        card: becomes model.json.
        graph: the backbone as ONNX.
        weights: of the backbone, by their names in the network.
        head: what `rules.HEADS` reads, `means` [C, d], and what only a next step reads.
        fitted: what `rules.FITTED` reads; empty for a rule that is not fitted.
        golden_input: [G, *card.spec.shape], in the type that `card.spec` names. It stays in the files, so it should be
            nobody's example.
        golden_features: [G, d] that the trainer computes for it; probabilities follow from them by the card's rule.

    Raises:
        ValueError: when a weight is not finite, which no server must ever see.
        LoadError: when the arrays do not fit the card.
        OSError: when a file cannot be written.
    """
    if card.frozen:
        raise ValueError(f"the card refers to a frozen backbone, {card.frozen}: `write_head` is for such a version")
    _check_finite(weights)
    golden = {"input": golden_input, **_golden(card, head, fitted, golden_features)}
    _write_head(folder, card, head, fitted, golden)
    (folder / files.GRAPH_FILE).write_bytes(graph)
    write_tensors(folder / files.WEIGHTS_FILE, weights)


def write_head(
    folder: Path, card: ModelCard, *, head: Arrays, golden_features: Floats, fitted: Arrays | None = None
) -> None:
    """Write the files of a version that refers to a frozen backbone, without a manifest.

    Args:
        folder: is made, and must not exist.
        card: becomes model.json; `card.frozen` says which backbone.
        head: what `rules.HEADS` reads, `means` [C, d], and what only a next step reads.
        golden_features: [G, d], as `BackboneStore.golden` returns them.
        fitted: what `rules.FITTED` reads; None for a rule that is not fitted.

    Raises:
        ValueError: when the card refers to no backbone, or a weight is not finite.
        LoadError: when the arrays do not fit the card.
        OSError: when a file cannot be written.
    """
    if not card.frozen:
        raise ValueError("the card refers to no frozen backbone")
    fitted = fitted or {}
    _write_head(folder, card, head, fitted, _golden(card, head, fitted, golden_features))


def _golden(card: ModelCard, head: Arrays, fitted: Arrays, features: Floats) -> dict[str, NDArray[Any]]:
    """Return golden features and the probabilities that follow from them by the card's rule."""
    for arrays in (head, fitted):
        _check_finite(arrays)
    rule = read_rule(
        card.rule,
        card.head,
        take_from(files.HEAD_FILE, head),
        lambda: take_from(files.RULE_FILE, fitted),
        classes=len(card.labels),
        length=card.feature_length,
        nme_scale=card.nme_scale,
    )
    return {"features": features, "probabilities": softmax(rule.scores(range(len(card.labels)))(features))}


def _write_head(folder: Path, card: ModelCard, head: Arrays, fitted: Arrays, golden: Arrays) -> None:
    folder.mkdir(parents=True)
    (folder / files.MODEL_FILE).write_text(card.to_json(), encoding="utf-8")
    write_tensors(folder / files.HEAD_FILE, head)
    if fitted:
        write_tensors(folder / files.RULE_FILE, fitted)
    write_tensors(folder / files.GOLDEN_FILE, golden)


def write_nearness(folder: Path, nearness: Floats) -> None:
    """Add what `unknown.threshold` wants to the files of a version.

    Args:
        folder: of a version that is not published yet.
        nearness: cosine of each hold-out example to the mean that is nearest [H], in any order.
    """
    write_tensors(folder / files.HOLDOUT_FILE, {"nearness": np.sort(nearness)})


def write_tensors(path: Path, arrays: Arrays) -> None:
    """Write a safetensors file with the permissions that the umask leaves, from arrays of any memory order.

    The library's own writer makes files that only their owner can read; a server may run as another user.
    """
    path.write_bytes(save({name: np.asarray(array, order="C") for name, array in arrays.items()}))


def _check_finite(arrays: Arrays) -> None:
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"the trained {name!r} is not finite")
