"""Fits the rules that predict from exemplars' features, beside the head and the nearest mean.

A rule is fitted when its step ends and is kept as tensors, with which `accrete_model.rules` scores without the library
that fitted it. Features are scaled to length 1 in both, as iCaRL does for its means: only directions count.

Shapes: E exemplars, d feature length, C classes.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from accrete_learner.fitting import knn, mlp, svm

Fit = Callable[[Tensor, Tensor, int, torch.Generator], dict[str, Tensor]]
"""Unit features [E, d], classes [E], C and a source of randomness to the rule's tensors, float32 or int64."""

FITS: dict[str, Fit] = {"knn": knn.fit, "mlp": mlp.fit, "svm": svm.fit}
"""By the names of `accrete_model.rules.FITTED`."""


@torch.no_grad()
def fit(
    name: str, features: Tensor, labels: Tensor, *, class_count: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """Return the tensors of a rule, on the features' device; none for `head` and `nme`, which need no fit.

    Any number of exemplars is enough. A class without one scores lowest, and a class alone always wins.

    Args:
        name: of the rule.
        features: [E, d] of the exemplars under the network that will serve; of any length.
        labels: [E] int64 classes.
        class_count: C.
        generator: of the random start where the rule has one.

    Raises:
        ValueError: without an exemplar, on a feature that is not finite or a class outside 0 to C - 1.
    """
    if name not in FITS:
        return {}
    if not len(features) or len(features) != len(labels):
        raise ValueError(f"{len(features)} features and {len(labels)} labels: a rule needs one exemplar or more")
    if not torch.isfinite(features).all():
        raise ValueError("a rule needs finite features")
    if not (int(labels.min()) >= 0 and int(labels.max()) < class_count):
        raise ValueError(f"labels has a class outside 0 to {class_count - 1}")
    return FITS[name](F.normalize(features.float(), dim=1), labels, class_count, generator)
