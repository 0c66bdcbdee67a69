"""What a finished network answers: features in batches, scores by either rule, hits per class.

Shapes: n examples, d feature length, C classes.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from accrete_learner.metrics import Tally

#: Temperature of nearest-mean scores: softmax(10 cos). Only the probabilities depend on it, never the ranking.
NME_SCALE = 10.0


def extract(backbone: nn.Module, x: Tensor, *, batch_size: int = 512) -> Tensor:
    """Features [n, d] float32 of `x`, computed as a server will: evaluation mode, full precision, no gradients.

    Args:
        backbone: comes back in the mode in which it was.
        x: examples in the model's input form, on the backbone's device.
        batch_size: bounds the memory that activations take.
    """
    was_training = backbone.training
    backbone.eval()
    with torch.no_grad():
        # An empty x still goes through once, so that the answer has its d columns.
        starts = range(0, max(1, len(x)), batch_size)
        features = torch.cat([backbone(x[start : start + batch_size]) for start in starts]).float()
    backbone.train(was_training)
    return features


def head_scores(features: Tensor, head: Mapping[str, Tensor]) -> Tensor:
    """Scores [n, C] of an exported head: cosine when it has a `scale`, else linear.

    Source: Hou et al. (CVPR 2019), equation 4, for the cosine head.
    """
    if "scale" in head:
        return head["scale"] * F.linear(F.normalize(features, dim=1), F.normalize(head["weight"], dim=1))
    return F.linear(features, head["weight"], head["bias"])


def nme_scores(features: Tensor, means: Tensor) -> Tensor:
    """Scores [n, C]: `NME_SCALE` times the cosine with each class's mean [C, d]. Rebuffi et al. (CVPR 2017), eq. 2."""
    return NME_SCALE * F.linear(F.normalize(features, dim=1), F.normalize(means, dim=1))


def tally(scores: Tensor, y: Tensor, labels: Sequence[str]) -> dict[str, Tally]:
    """Hits and examples of each class that has any.

    Args:
        scores: [n, C].
        y: [n] int64 true classes.
        labels: C of them, by class index.
    """
    hit = scores.argmax(1) == y
    totals = torch.bincount(y, minlength=len(labels)).tolist()
    hits = torch.bincount(y[hit], minlength=len(labels)).tolist()
    return {label: Tally(hits=hits[index], total=totals[index]) for index, label in enumerate(labels) if totals[index]}
