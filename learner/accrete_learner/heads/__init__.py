"""Heads turn features into class scores. They grow by new classes, and are restored from a version's files.

Shapes: d feature length, O classes known before the step, C classes in all.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from accrete_learner.heads.base import SHARED, Head, block_sizes
from accrete_learner.heads.cosine import CosineHead, cosines, initial_scale
from accrete_learner.heads.imprint import imprint
from accrete_learner.heads.linear import LinearHead
from accrete_learner.heads.random_features import RandomFeaturesHead

__all__ = [
    "SHARED",
    "CosineHead",
    "Head",
    "HeadChoice",
    "LinearHead",
    "RandomFeaturesHead",
    "cosines",
    "grow",
    "imprint",
    "restore",
    "widened",
]


@dataclass(frozen=True, kw_only=True)
class HeadChoice:
    """The kind of a method's head, and how its new rows start."""

    kind: Literal["linear", "cosine"] = "linear"
    imprint: bool = False
    """New rows start at their class's mean feature instead of at random, in a step that has a parent."""
    freeze_old: bool = False
    """Old rows stay as they are while new classes train."""
    non_negative: bool = False
    """A linear head's rows are clipped at 0 after each update (WA, section 4.3). On features that passed a ReLU, a
    row's length then says how large its scores are."""


def restore(exported: Mapping[str, Tensor]) -> Head:
    """Return the head that `Head.export` wrote, with all its rows as old ones."""
    rows = exported["weight"]
    none = rows.new_empty(0, rows.shape[1])
    if "projection" in exported:
        scale = exported.get("scale", rows.new_ones(1))  # versions of earlier releases have none
        second = exported.get("compensation")
        head: Head = RandomFeaturesHead(rows, none, exported["bias"], exported["projection"], scale, second)
    elif "scale" in exported:
        head = _cosine(rows, none, exported)
    else:
        head = LinearHead(rows, none, exported["bias"], rows.new_empty(0))
    head.old_blocks = block_sizes(exported)
    return head


def grow(
    choice: HeadChoice,
    parent: Mapping[str, Tensor] | None,
    *,
    feature_length: int,
    class_count: int,
    generator: torch.Generator,
) -> Head:
    """Return a head of the chosen kind, with the parent's rows first and new ones up to `class_count`.

    A parent of another kind gives its rows, and a bias or scale that it lacks starts as in a first step. The head is
    on the generator's device.

    Raises:
        ValueError: when the parent knows more classes or has another feature length.
    """
    device = generator.device
    parent = None if parent is None else _on_features(parent)
    old_rows = torch.empty(0, feature_length, device=device) if parent is None else parent["weight"].to(device)
    new_count = class_count - len(old_rows)
    if new_count < 0 or old_rows.shape[1] != feature_length:
        raise ValueError(f"a head of shape {list(old_rows.shape)} cannot grow to [{class_count}, {feature_length}]")
    bound = _bound(feature_length)
    new_rows = torch.empty(new_count, feature_length, device=device).uniform_(-bound, bound, generator=generator)
    known = {} if parent is None else {name: tensor.to(device) for name, tensor in parent.items()}
    if choice.kind == "cosine":
        head: Head = _cosine(old_rows, new_rows, known)
    else:
        old_bias = known.get("bias", torch.zeros(len(old_rows), device=device))
        new_bias = torch.empty(new_count, device=device).uniform_(-bound, bound, generator=generator)
        head = LinearHead(old_rows, new_rows, old_bias, new_bias, non_negative=choice.non_negative)
    # Without new classes nothing moves the old rows away, and a network whose backbone has nothing to train could not
    # learn at all if they were frozen.
    head.freeze_old(choice.freeze_old and new_count > 0)
    head.old_blocks = () if parent is None else block_sizes(parent)
    return head


def widened(parent: Mapping[str, Tensor], more: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Return an exported head on `more` features beside its own, whose columns start as those of a new row."""
    known = _on_features(parent)
    rows = known["weight"].to(generator.device)
    bound = _bound(rows.shape[1] + more)
    columns = torch.empty(len(rows), more, device=generator.device).uniform_(-bound, bound, generator=generator)
    return {**known, "weight": torch.cat((rows, columns), dim=1)}


def _on_features(parent: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return an exported head whose rows are of the backbone's features."""
    if "projection" not in parent:
        return parent
    # Its rows are of another space. The class means are the closest to rows in this one.
    return {"weight": parent["means"], **{name: parent[name] for name in ("blocks",) if name in parent}}


def _bound(feature_length: int) -> float:
    """Return the bound of torch.nn.Linear's own start, which LUCIR's cosine layer uses too."""
    return 1 / math.sqrt(feature_length)


def _cosine(old_rows: Tensor, new_rows: Tensor, known: Mapping[str, Tensor]) -> CosineHead:
    head = CosineHead(old_rows, new_rows, known.get("scale", initial_scale().to(old_rows.device)))
    if "gain" in known:
        head.restore_correction(known["gain"], known["bias"])
    return head
