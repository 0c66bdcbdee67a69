"""What a finished network answers: features in batches, scores by any rule.

Shapes: n examples, d feature length, C classes.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from accrete_learner import rules

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


def scores(rule: str, features: Tensor, head: Mapping[str, Tensor], rule_tensors: Mapping[str, Tensor]) -> Tensor:
    """Scores [n, C] of features [n, d] by `rule`; their softmax is the probability.

    Args:
        rule: "head", "nme", or one of `accrete_learner.rules.RULES`.
        features: as the backbone gives them.
        head: as exported, `means` included.
        rule_tensors: what `accrete_learner.rules.fit` made; not read by "head" and "nme".
    """
    if rule == "head":
        return head_scores(features, head)
    if rule == "nme":
        return nme_scores(features, head["means"])
    return rules.scores(rule, rule_tensors, features)


def head_kind(head: Mapping[str, Tensor]) -> str:
    """What an exported head is: "random_features" when it has a `projection`, "cosine" a `scale`, else "linear"."""
    if "projection" in head:
        return "random_features"
    return "cosine" if "scale" in head else "linear"


def head_scores(features: Tensor, head: Mapping[str, Tensor]) -> Tensor:
    """Scores [n, C] of an exported head: `weight` and, by its kind,

    * linear: `bias` [C];
    * cosine: `scale` [1] and, once its bias towards new classes was corrected, `gain` [C] and `bias` [C]:
      gain * scale * cosine + bias (Hou et al., CVPR 2019, equation 4; the correction: Wu et al., CVPR 2019);
    * random features: `projection` [d, p] and `bias` [C], with `weight` [C, p], on relu(features @ projection), and all
      times `scale` [1] where there is one (McDonnell et al., RanPAC, NeurIPS 2023): a regression's scores lie around 0
      to 1, and a softmax wants wider ones.
    """
    kind = head_kind(head)
    if kind == "random_features":
        regressed = F.linear((features @ head["projection"]).relu(), head["weight"], head["bias"])
        return head["scale"] * regressed if "scale" in head else regressed
    if kind == "linear":
        return F.linear(features, head["weight"], head["bias"])
    cosines = head["scale"] * F.linear(F.normalize(features, dim=1), F.normalize(head["weight"], dim=1))
    corrected = head["gain"] * cosines if "gain" in head else cosines
    return corrected + head["bias"] if "bias" in head else corrected


def nme_scores(features: Tensor, means: Tensor) -> Tensor:
    """Scores [n, C]: `NME_SCALE` times the cosine with each class's mean [C, d]. Rebuffi et al. (CVPR 2017), eq. 2."""
    return NME_SCALE * F.linear(F.normalize(features, dim=1), F.normalize(means, dim=1))
