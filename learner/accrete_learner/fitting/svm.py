"""A support vector machine with a Gaussian kernel, each class against the rest.

Source: Cortes and Vapnik, Support-Vector Networks (1995).
Shapes: E exemplars, d feature length, C classes.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from accrete_learner.fitting.base import doubles, offsets, stopping_early

COST = 1.0
"""Cost of a margin violated. On digits with 5 and 20 exemplars per class, 1, 10 and 100 differed by half a point."""
SLOPE = 5.0
"""Score per unit of margin, which has no probability of its own. On the same digits the likelihood was best at 5."""
ITERATIONS = 100_000
"""Bound on iterations of one class's fit, which ends by itself long before unless the features are worthless."""


def fit(features: Tensor, labels: Tensor, class_count: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Fit C machines in a time that grows as C * E^2; nothing is drawn. See `accrete_learner.fitting.fit`.

    Returns:
        `x` [E, d] the exemplars, `dual` [C, E], `intercept` [C] and `gamma` [1].
    """
    x, y = doubles(features), labels.cpu().numpy()
    # As scikit-learn's "scale": one over the features' whole variance, so that the kernel falls off within the data.
    gamma = 1 / max(float(x.var(axis=0).sum()), 1e-6)
    dual = np.zeros((class_count, len(y)))
    intercept = offsets(labels, class_count).cpu().double().numpy()
    classes = np.unique(y)
    for label in classes if len(classes) > 1 else []:
        dual[label], intercept[label] = _machine(x, y == label, gamma)
    return {
        "x": features,
        "dual": torch.from_numpy(dual).to(features),
        "intercept": torch.from_numpy(intercept).to(features),
        "gamma": features.new_tensor([gamma]),
    }


def _machine(x: NDArray[np.float64], own: NDArray[np.bool_], gamma: float) -> tuple[NDArray[np.float64], float]:
    """Return dual coefficients [E] and intercept of one class against the rest, of equal weight, times `SLOPE`."""
    with stopping_early():
        from sklearn.svm import SVC

        model = SVC(C=COST, kernel="rbf", gamma=gamma, class_weight="balanced", max_iter=ITERATIONS).fit(x, own)
    dual = np.zeros(len(x))
    dual[model.support_] = model.dual_coef_[0]
    return SLOPE * dual, SLOPE * float(model.intercept_[0])
