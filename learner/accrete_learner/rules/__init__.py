"""Rules that are fitted on the exemplars' features and predict beside the head and the nearest mean.

A rule is fitted when its step ends and travels as tensors: a server computes it without the library that fitted it.
Features are scaled to length 1 in here, as iCaRL does for its means: only directions count.

Shapes: E exemplars, N examples, d feature length, C classes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from accrete_learner.rules import knn, mlp, svm


@dataclass(frozen=True, kw_only=True)
class FeatureRule:
    """The two halves of a rule, both on unit features."""

    fit: Callable[[Tensor, Tensor, int, torch.Generator], dict[str, Tensor]]
    """Unit features [E, d], classes [E], C and a source of randomness to the rule's tensors, float32 or int64."""
    scores: Callable[[Mapping[str, Tensor], Tensor], Tensor]
    """The tensors and unit features [N, d] to scores [N, C], whose softmax is the probability."""


RULES: dict[str, FeatureRule] = {
    "knn": FeatureRule(fit=knn.fit, scores=knn.scores),
    "mlp": FeatureRule(fit=mlp.fit, scores=mlp.scores),
    "svm": FeatureRule(fit=svm.fit, scores=svm.scores),
}


@torch.no_grad()
def fit(
    name: str, features: Tensor, labels: Tensor, *, class_count: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """The tensors of the rule called `name`, on the features' device; none for `head` and `nme`, which need no fit.

    Any numbers of exemplars are enough: a class without one scores lowest, and a class alone wins always.

    Args:
        name: of the rule.
        features: [E, d] of the exemplars under the network that will serve; of any length.
        labels: [E] int64 classes.
        class_count: C.
        generator: of the random start where the rule has one.

    Raises:
        ValueError: without an exemplar, on a feature that is not finite or a class outside 0 to C - 1.
    """
    if name not in RULES:
        return {}
    if not len(features) or len(features) != len(labels):
        raise ValueError(f"{len(features)} features and {len(labels)} labels: a rule needs one exemplar or more")
    if not torch.isfinite(features).all():
        raise ValueError("a rule needs finite features")
    if not (int(labels.min()) >= 0 and int(labels.max()) < class_count):
        raise ValueError(f"labels has a class outside 0 to {class_count - 1}")
    return RULES[name].fit(F.normalize(features.float(), dim=1), labels, class_count, generator)


def scores(name: str, tensors: Mapping[str, Tensor], features: Tensor) -> Tensor:
    """Scores [N, C] of features [N, d] by a rule that `fit` made. Raises KeyError for a rule that is not fitted."""
    return RULES[name].scores(tensors, F.normalize(features, dim=1))
