"""A support vector machine with a Gaussian kernel, each class against the rest.

Source: Cortes and Vapnik, Support-Vector Networks (1995).
Shapes: E exemplars, N examples, d feature length, C classes.
"""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from accrete_learner.rules.fitting import doubles, offsets, stopping_early

#: Cost of a margin violated. On digits with 5 and 20 exemplars a class, 1, 10 and 100 differed by half a point.
COST = 1.0
#: Scores a unit of margin: a margin has no probability of its own. On the same digits the likelihood was best at 5.
SLOPE = 5.0
#: Bound on iterations of one class's fit, which ends by itself long before unless the features are worthless.
ITERATIONS = 100_000


def fit(features: Tensor, labels: Tensor, class_count: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Fits C machines; nothing is drawn. The cost in time grows as C * E^2; see `accrete_learner.rules.fit`.

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


def scores(tensors: Mapping[str, Tensor], features: Tensor) -> Tensor:
    """Scores [N, C]: `SLOPE` times the margins, sum over exemplars of dual * exp(-gamma * distance^2) + intercept."""
    distances = 2 - 2 * features @ tensors["x"].T  # squared, of unit vectors
    kernel = (-tensors["gamma"] * distances).exp()
    return kernel @ tensors["dual"].T + tensors["intercept"]


def _machine(x: NDArray[np.float64], own: NDArray[np.bool_], gamma: float) -> tuple[NDArray[np.float64], float]:
    """Dual coefficients [E] and intercept of one class against the rest, times `SLOPE`; both sides weigh the same."""
    with stopping_early():
        from sklearn.svm import SVC

        model = SVC(C=COST, kernel="rbf", gamma=gamma, class_weight="balanced", max_iter=ITERATIONS).fit(x, own)
    dual = np.zeros(len(x))
    dual[model.support_] = model.dual_coef_[0]
    return SLOPE * dual, SLOPE * float(model.intercept_[0])
