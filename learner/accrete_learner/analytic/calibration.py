"""Probabilities that can be believed.

Shapes: n examples, C classes.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from accrete_learner.analytic.statistics import Doubles, Labels, Reals

#: How far the logarithm of a factor on scores may be from that of the usual one, and its standard deviation.
_REACH: Final = 6.0
_SPREAD: Final = 1.0


def log_losses(scores: Reals, labels: Labels, factor: float) -> Doubles:
    """Return -log p of its own class for each example [n], with p = softmax(factor * scores).

    Args:
        scores: [n, C].
        labels: [n], classes.
        factor: the inverse of the temperature, above 0.
    """
    return _losses(*_below_highest(scores, labels), factor)


def _below_highest(scores: Reals, labels: Labels) -> tuple[Reals, Doubles]:
    """Return scores less the highest of their example [n, C], and those of the examples' own classes [n]."""
    below = scores - scores.max(axis=1, keepdims=True, initial=-np.inf)
    return below, below[np.arange(len(labels)), labels].astype(np.float64)


def _losses(below: Reals, own: Doubles, factor: float) -> Doubles:
    exponentials = below * factor
    np.exp(exponentials, out=exponentials)
    losses: Doubles = np.log(exponentials.sum(axis=1, dtype=np.float64)) - factor * own
    return losses


def best_factor(scores: Reals, labels: Labels, usual: float) -> float:
    """Return the factor on scores [n, C] that makes their softmax the likeliest.

    Its logarithm has a normal prior about that of the usual one, which a few dozen examples outweigh. Without it, a few
    answers that are all right would ask for certainty.

    Args:
        scores: [n, C] of examples that the head has not seen.
        labels: [n], classes.
        usual: what the factor is about.

    Source: Guo et al., On calibration of modern neural networks (ICML 2017), section 4.2; the prior is ours.
    """
    below, own = _below_highest(scores, labels)

    from scipy.optimize import minimize_scalar  # half a second that a trainer of networks does without

    def unlikely(exponent: float) -> float:
        prior = (exponent / _SPREAD) ** 2 / 2
        return float(_losses(below, own, usual * math.exp(exponent)).sum()) + prior

    found = minimize_scalar(unlikely, bounds=(-_REACH, _REACH), method="bounded", options={"xatol": 1e-2})
    return usual * math.exp(found.x)


def expected_calibration_error(probabilities: Doubles, labels: Labels, bins: int = 15) -> float:
    """Return the mean distance of confidence from accuracy over bins of equal width, weighted by their examples.

    Args:
        probabilities: [n, C].
        labels: [n], classes.
        bins: of the highest probability.

    Source: Guo et al., On calibration of modern neural networks (ICML 2017), equation 3.
    """
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    which = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    apart = np.bincount(which, weights=confidence - right, minlength=bins)
    return float(np.abs(apart).sum() / max(len(labels), 1))
