"""From features to class scores, by the heads and rules that a version may have, one per file, in numpy alone.

Servers, the gate, the trainer and the protocols all score in here. Only what a training differentiates, a head's
`forward`, exists in torch as well; the learner fits the rules in `FITTED`.
"""

from __future__ import annotations

from collections.abc import Callable, Container

from accrete_model.rules.base import Rule, StoredRule, Take
from accrete_model.rules.cosine import Cosine
from accrete_model.rules.knn import Knn
from accrete_model.rules.linear import Linear
from accrete_model.rules.mlp import Mlp
from accrete_model.rules.nearest_mean import NME_SCALE, NearestMean
from accrete_model.rules.random_features import RandomFeatures
from accrete_model.rules.svm import Svm

__all__ = ["FITTED", "HEADS", "NME_SCALE", "UNFITTED", "NearestMean", "Rule", "head_kind", "read_rule"]

HEADS: dict[str, type[StoredRule]] = {"linear": Linear, "cosine": Cosine, "random_features": RandomFeatures}
"""By the name of the head in model.json; their tensors are in head.safetensors."""
UNFITTED = ("head", "nme")
"""Rules without tensors of their own: the version's head, and the nearest mean."""
FITTED: dict[str, type[StoredRule]] = {"knn": Knn, "mlp": Mlp, "svm": Svm}
"""By the name of the rule in model.json; their tensors are in rule.safetensors."""


def head_kind(head: Container[str]) -> str:
    """Return which of `HEADS` has these names of tensors.

    That is "random_features" with a `projection`, else "cosine" with a `scale`, else "linear".
    """
    if "projection" in head:
        return "random_features"
    return "cosine" if "scale" in head else "linear"


def read_rule(
    rule: str,
    head: str,
    take: Take,
    take_fitted: Callable[[], Take],
    *,
    classes: int,
    length: int,
    nme_scale: float = NME_SCALE,
) -> Rule:
    """Return the rule by which a version scores.

    Args:
        rule: one of `UNFITTED` or `FITTED`.
        head: one of `HEADS`.
        take: takes tensors out of head.safetensors.
        take_fitted: called for one of `FITTED` alone; returns what takes tensors out of rule.safetensors.
        classes: C.
        length: d.
        nme_scale: of "nme".

    Raises:
        LoadError: (stage "read") when a tensor is missing or malformed, one of the head included, whatever the rule is:
            a version whose head is damaged is damaged.
    """
    stored = HEADS[head].read(take, classes=classes, length=length)
    if rule == "head":
        return stored
    if rule == "nme":
        return NearestMean(means=take("means", (classes, length)), scale=nme_scale)
    return FITTED[rule].read(take_fitted(), classes=classes, length=length)
