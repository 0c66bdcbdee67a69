"""From features to probabilities: the head or the nearest class means, masks, and provisional classes.

Shapes: N images, d feature length, K known classes that are not masked, P provisional classes.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accrete_engine.artifact import HeadTensors, ModelCard

Floats = NDArray[np.float32]

_SMALLEST = np.float32(1e-12)  # keeps the direction of a zero vector defined


@dataclass(frozen=True, kw_only=True)
class Prototypes:
    """Mean features of classes that no step has learned yet."""

    labels: tuple[str, ...]
    vectors: Floats  # [P, d], unit length


class Answers:
    """A version's rule with one set of masked labels and prototypes, prepared so that a request only multiplies.

    A label that the head knows and that is not masked ignores its prototype; a masked one that was taught again is
    provisional. `labels` are the known ones in head order, then the provisional ones; `provisional` is bool [K + P].
    """

    def __init__(self, card: ModelCard, head: HeadTensors, mask: Set[str], prototypes: Prototypes | None) -> None:
        kept = [row for row, label in enumerate(card.labels) if label not in mask]
        known = tuple(card.labels[row] for row in kept)
        new = _new_rows(prototypes, known)
        vectors = _vectors(prototypes, new, card.feature_length)
        self.labels = known + tuple(prototypes.labels[row] for row in new if prototypes)
        self.provisional = np.arange(len(self.labels)) >= len(known)
        self._known = len(known)
        self._means_rule = card.rule == "nme"
        self._cosine = card.head == "cosine"
        self._nme_scale = np.float32(card.nme_scale)
        weight = head.weight[kept]
        self._weight = np.ascontiguousarray((unit(weight) * np.float32(head.scale) if self._cosine else weight).T)
        self._bias = head.bias[kept]
        self._near = np.ascontiguousarray(np.concatenate([head.means[kept], vectors]).T)  # [d, K + P]

    def __call__(self, features: Floats) -> Floats:
        """Probabilities [N, K + P] of features [N, d]; each row sums to 1.

        With provisional classes: q = softmax(nme_scale * cosine to [class means; prototypes]); provisional classes get
        their q, and the rest is shared among the known classes as the version's own rule says.
        """
        directions = unit(features) if self._needs_directions else features
        if len(self.labels) == self._known:
            return self._of_known(features, directions)
        near = softmax(self._nme_scale * (directions @ self._near))
        if not self._known:
            return near
        new = near[:, self._known :]
        rest = np.clip(1 - new.sum(axis=1, keepdims=True), 0, 1)
        return np.concatenate([rest * self._of_known(features, directions), new], axis=1)

    @property
    def _needs_directions(self) -> bool:
        return self._means_rule or self._cosine or len(self.labels) > self._known

    def _of_known(self, features: Floats, directions: Floats) -> Floats:
        if self._means_rule:
            return softmax(self._nme_scale * (directions @ self._near[:, : self._known]))
        if self._cosine:
            return softmax(directions @ self._weight)
        return softmax(features @ self._weight + self._bias)


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


def unit(vectors: Floats) -> Floats:
    """The rows of `vectors` scaled to length 1; a zero row stays zero."""
    lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))[:, None]
    directions: Floats = vectors / np.maximum(lengths, _SMALLEST)
    return directions


def softmax(scores: Floats) -> Floats:
    """Probabilities from scores [N, K], along K."""
    shifted: Floats = np.exp(scores - scores.max(axis=1, keepdims=True, initial=-np.inf))
    total: Floats = shifted.sum(axis=1, keepdims=True)
    return shifted / total
