"""From features to probabilities: the version's rule, masks, and provisional classes.

Shapes: N images, d feature length, K known classes that are not masked, P provisional classes.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

import numpy as np

from accrete_engine.artifact import ModelCard
from accrete_engine.rules import NearestMean, Rule
from accrete_engine.vectors import Floats, softmax, unit


@dataclass(frozen=True, kw_only=True)
class Prototypes:
    """Mean features of classes that no step has learned yet."""

    labels: tuple[str, ...]
    vectors: Floats  # [P, d], unit length


class Answers:
    """A version's rule with one set of masked labels and prototypes, prepared so that a request only multiplies.

    A label that the version knows and that is not masked ignores its prototype; a masked one that was taught again is
    provisional. `labels` are the known ones in the version's order, then the provisional ones; `provisional` is bool
    [K + P].
    """

    def __init__(
        self, card: ModelCard, rule: Rule, means: Floats, mask: Set[str], prototypes: Prototypes | None
    ) -> None:
        """`rule` scores the classes of `card`, whose unit means [C, d] meet the prototypes.

        Raises ValueError when the prototypes belong to another feature space.
        """
        kept = [row for row, label in enumerate(card.labels) if label not in mask]
        known = tuple(card.labels[row] for row in kept)
        new = _new_rows(prototypes, known)
        near = np.concatenate([means[kept], _vectors(prototypes, new, card.feature_length)])  # [K + P, d]
        self.labels = known + tuple(prototypes.labels[row] for row in new if prototypes)
        self.provisional = np.arange(len(self.labels)) >= len(known)
        self._known = len(known)
        self._scores = rule.scores(kept) if kept else None
        self._near = NearestMean(means=near, scale=card.nme_scale).scores(range(len(near)))

    def __call__(self, features: Floats) -> Floats:
        """Probabilities [N, K + P] of features [N, d]; each row sums to 1.

        With provisional classes: q = softmax(nme_scale * cosine to [class means; prototypes]); provisional classes get
        their q, and the rest is shared among the known classes as the version's own rule says.
        """
        if self._scores is None:
            return softmax(self._near(features))
        known = softmax(self._scores(features))
        if len(self.labels) == self._known:
            return known
        new = softmax(self._near(features))[:, self._known :]
        rest = np.clip(1 - new.sum(axis=1, keepdims=True), 0, 1)
        return np.concatenate([rest * known, new], axis=1)


def _new_rows(prototypes: Prototypes | None, known: tuple[str, ...]) -> list[int]:
    if prototypes is None:
        return []
    return [row for row, label in enumerate(prototypes.labels) if label not in set(known)]


def _vectors(prototypes: Prototypes | None, rows: list[int], length: int) -> Floats:
    """The prototypes' vectors [P, d]; raises ValueError when they belong to another feature space."""
    if prototypes is None or not rows:
        return np.zeros((0, length), np.float32)
    if prototypes.vectors.shape != (len(prototypes.labels), length) or not np.isfinite(prototypes.vectors).all():
        raise ValueError(f"prototypes are {prototypes.vectors.shape}, not finite vectors of length {length}")
    return unit(prototypes.vectors[rows].astype(np.float32))
