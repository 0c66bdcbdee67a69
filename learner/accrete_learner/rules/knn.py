"""The nearest exemplars vote, near ones more.

Sources: Cover and Hart, Nearest Neighbor Pattern Classification (1967); Dudani, The Distance-Weighted
k-Nearest-Neighbor Rule (1976): the weight falls to zero towards the farthest neighbour; Wu et al., Unsupervised Feature
Learning via Non-Parametric Instance Discrimination (CVPR 2018), section 3.4: weights exp(cosine / temperature).
Shapes: E exemplars, N examples, d feature length, C classes.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from accrete_learner.rules.fitting import offsets

#: Exemplars that vote. Few, because a class may have five or fewer; on digits with 5 and 20 a class, 5 and 10 did best.
NEIGHBOURS = 5
#: Of the weights; section 3.4 of Wu et al.
TEMPERATURE = 0.07
#: Weight, in votes of the nearest exemplar, that all classes share: probabilities stay off 0 and 1.
SMOOTHING = 0.1


def fit(features: Tensor, labels: Tensor, class_count: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Nothing is fitted and nothing drawn; see `accrete_learner.rules.fit`.

    Returns:
        `x` [E, d] and `y` [E] the exemplars; `offset` [C] to add to the scores; `neighbours` [1] int64,
        `temperature` [1] and `smoothing` [1].
    """
    return {
        "x": features,
        "y": labels,
        "offset": offsets(labels, class_count),
        "neighbours": labels.new_tensor([NEIGHBOURS]),
        "temperature": features.new_tensor([TEMPERATURE]),
        "smoothing": features.new_tensor([SMOOTHING]),
    }


def scores(tensors: Mapping[str, Tensor], features: Tensor) -> Tensor:
    """Scores [N, C]: the logarithm of each class's smoothed share of the votes, so their softmax is that share.

    An exemplar's vote is how much its weight exceeds that of the first exemplar that does not vote: it fades as that
    one comes near, so no rounding of a feature changes a probability by a leap.
    """
    cosines = features @ tensors["x"].T
    count, temperature = int(tensors["neighbours"]), tensors["temperature"]
    nearest = cosines.max(dim=1, keepdim=True).values
    votes = ((cosines - nearest) / temperature).exp()  # [N, E]
    if votes.shape[1] > count:
        votes = (votes - votes.topk(count + 1, dim=1).values[:, -1:]).clamp(min=0)
    of_classes = votes.new_zeros(len(votes), len(tensors["offset"])).index_add_(1, tensors["y"], votes)
    smoothed = of_classes + tensors["smoothing"] / of_classes.shape[1]
    return (smoothed / smoothed.sum(dim=1, keepdim=True)).log() + tensors["offset"]
