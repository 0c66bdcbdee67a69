"""The vote of the nearest exemplars, which `accrete_model.rules.knn` describes; only its settings are chosen here.

Shapes: E exemplars, d feature length, C classes.
"""

import torch
from torch import Tensor

from accrete_learner.fitting.base import offsets

NEIGHBOURS = 5
"""Exemplars that vote. A class may have five or fewer; on digits with 5 and 20 per class, 5 and 10 did best."""
TEMPERATURE = 0.07
"""Of the weights (Wu et al., CVPR 2018, section 3.4)."""
SMOOTHING = 0.1
"""Votes of the nearest exemplar that all classes share."""


def fit(features: Tensor, labels: Tensor, class_count: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Return the rule's tensors; nothing is fitted and nothing drawn. See `accrete_learner.fitting.fit`.

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
