"""A perceptron with one hidden layer on the exemplars' features, all classes as if they had equally many.

Shapes: E exemplars, d feature length, h hidden units, C classes.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from accrete_learner.fitting.base import doubles, offsets, random_state, stopping_early

HIDDEN = 128
"""Hidden units. On digits with 5 and 20 exemplars per class, 64, 128 and 256 differed by less than a point."""
DECAY = 0.1
"""Weight decay in scikit-learn's sense. On the same digits 0.1 had the best likelihood of 0.0001 to 1."""
ITERATIONS = 200
"""Bound on iterations of the solver, which mostly ends by itself before and gains little after."""


def fit(features: Tensor, labels: Tensor, class_count: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Fit with L-BFGS, which suits few examples better than steps on batches; see `accrete_learner.fitting.fit`.

    Returns:
        `weight_1` [h, d], `bias_1` [h], `weight_2` [C, h] and `bias_2` [C].
    """
    # The solver's start and decay are meant for inputs of unit variance; unit features have 1/d.
    spread = math.sqrt(features.shape[1])
    present, y = np.unique(labels.cpu().numpy(), return_inverse=True)
    rows = _balanced(y)
    hidden, output = _layers(doubles(features)[rows] * spread, y[rows], random_state(generator))
    weight_2 = features.new_zeros(class_count, HIDDEN)
    bias_2 = offsets(labels, class_count)
    weight_2[present] = _tensor(output[:, :-1], features)
    bias_2[present] = _tensor(output[:, -1], features)
    return {
        "weight_1": _tensor(hidden[:, :-1] * spread, features),
        "bias_1": _tensor(hidden[:, -1], features),
        "weight_2": weight_2,
        "bias_2": bias_2,
    }


def _balanced(y: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return rows that hold every class as often as the largest, since the solver takes no weights."""
    of_classes = [np.flatnonzero(y == label) for label in range(y.max() + 1)]
    return np.concatenate([np.resize(rows, np.bincount(y).max()) for rows in of_classes])


def _layers(x: NDArray[np.float64], y: NDArray[np.int64], seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return both layers [h, d + 1] and [classes, h + 1], the bias last; `y` counts the classes from 0 without gaps."""
    if y.max() == 0:
        return np.zeros((HIDDEN, x.shape[1] + 1)), np.zeros((1, HIDDEN + 1))
    with stopping_early():
        from sklearn.neural_network import MLPClassifier

        model = MLPClassifier((HIDDEN,), solver="lbfgs", alpha=DECAY, max_iter=ITERATIONS, random_state=seed).fit(x, y)
    hidden, output = (
        np.concatenate([weight.T, bias[:, None]], axis=1)
        for weight, bias in zip(model.coefs_, model.intercepts_, strict=True)
    )
    # Of two classes scikit-learn fits the one difference.
    return hidden, np.concatenate([-output / 2, output / 2]) if len(output) == 1 else output


def _tensor(array: NDArray[np.float64], like: Tensor) -> Tensor:
    return torch.from_numpy(array).to(like)
