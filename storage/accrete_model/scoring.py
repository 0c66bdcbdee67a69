"""From features to probabilities, by the version's rule, with masks and provisional classes.

Shapes: N images, d feature length, R rows of known classes that are not masked, K of these classes (fewer where some
were merged), P provisional classes.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass

import numpy as np

from accrete_model.card import ModelCard
from accrete_model.rules import NearestMean, Rule
from accrete_model.vectors import Floats, log_total, softmax, unit


@dataclass(frozen=True, kw_only=True)
class PrototypeSet:
    """Mean features of classes that no step has learned yet."""

    labels: tuple[str, ...]
    vectors: Floats  # [P, d], unit length
    margin: float = 0.0
    """By how much a cosine to a prototype must exceed the known classes; calibrated on the hold-out, may be < 0."""


class Classifier:
    """A version's rule with one set of masked labels and prototypes, prepared so that a request only multiplies.

    A label that the version knows and that is not masked ignores its prototype; a masked one that was taught again is
    provisional.

    Attributes:
        labels: the known ones in the version's order, then the provisional ones.
        provisional: bool [K + P], which of them are provisional.
    """

    def __init__(
        self,
        card: ModelCard,
        rule: Rule,
        means: Floats,
        mask: Set[str],
        prototypes: PrototypeSet | None,
        labels: Sequence[str] | None = None,
    ) -> None:
        """Prepare the rule.

        Args:
            card: of the version.
            rule: by which it scores its classes.
            means: of its classes, of unit length [C, d]; prototypes compete with them.
            mask: labels to leave out.
            prototypes: of provisional classes, if there are any.
            labels: what each row is called now, "" for one to leave out. Rows with the same one answer as one class,
                with the sum of their probabilities. None: as the card says.

        Raises:
            ValueError: when the prototypes belong to another feature space, or the labels are not one for each row.
        """
        if labels is None:
            labels = card.labels
        elif len(labels) != len(card.labels):
            raise ValueError(f"{len(labels)} labels for a version of {len(card.labels)} rows")
        kept = [row for row, label in enumerate(labels) if label and label not in mask]
        of_rows = [labels[row] for row in kept]
        known = tuple(dict.fromkeys(of_rows))
        new = _new_rows(prototypes, known)
        vectors = _vectors(prototypes, new, card.feature_length)  # [P, d]
        self.labels = known + tuple(prototypes.labels[row] for row in new if prototypes)
        self.provisional = np.arange(len(self.labels)) >= len(known)
        self._scale = np.float32(card.nme_scale)
        self._margin = np.float32(prototypes.margin if prototypes else 0)
        self._rows = len(kept)
        self._first = [of_rows.index(label) for label in known] if len(known) < len(kept) else []
        """Of each class its first row, where some have more [K]."""
        first = set(self._first or range(len(kept)))
        self._further = [(row, known.index(of_rows[row])) for row in range(len(kept)) if row not in first]
        """Each other row, with the class that it is of."""
        self._scores = rule.scores(kept) if kept else None
        near = np.concatenate([means[kept], vectors])  # [R + P, d]
        self._cosines = NearestMean(means=near, scale=1.0).scores(range(len(near)))

    def __call__(self, features: Floats) -> Floats:
        """Return probabilities [N, K + P] of features [N, d]; each row sums to 1."""
        if self._scores is not None and not self.provisional[-1]:
            return softmax(self._by_class(self._scores(features)))
        cosines = self._cosines(features)
        known, new = self._levelled(features, cosines), cosines[:, self._rows :] - self._margin
        return softmax(self._scale * np.concatenate([known, new], axis=1))

    def strengths(self, features: Floats) -> Floats:
        """Return the known classes' scores [N, K] on the scale of the cosines with which they compete.

        Their differences are those of the version's own rule. Their level is that of the nearest-mean rule, so that all
        known classes together weigh against a prototype as much as their means do by softmax(nme_scale * cosine).
        """
        return self._levelled(features, self._cosines(features))

    def nearness(self, features: Floats) -> Floats:
        """Return the cosine [N] to the mean or prototype that is nearest; there must be a class."""
        nearest: Floats = self._cosines(features).max(axis=1)
        return nearest

    def _levelled(self, features: Floats, cosines: Floats) -> Floats:
        """Return `strengths` from the cosines [N, R + P] to means and prototypes."""
        if self._scores is None:
            return np.zeros((len(features), 0), np.float32)
        scores = self._by_class(self._scores(features))
        level = log_total(self._scale * cosines[:, : self._rows])
        strengths: Floats = (scores - log_total(scores) + level) / self._scale
        return strengths

    def _by_class(self, scores: Floats) -> Floats:
        """Return the scores [N, K] of classes from those of rows [N, R]: by softmax, the sum of their probabilities."""
        if not self._first:
            return scores
        summed = scores[:, self._first]
        for row, column in self._further:
            summed[:, column] = np.logaddexp(summed[:, column], scores[:, row])
        return summed


def _new_rows(prototypes: PrototypeSet | None, known: tuple[str, ...]) -> list[int]:
    if prototypes is None:
        return []
    return [row for row, label in enumerate(prototypes.labels) if label not in set(known)]


def _vectors(prototypes: PrototypeSet | None, rows: list[int], length: int) -> Floats:
    """Return the prototypes' unit vectors [P, d]; raise ValueError when they belong to another feature space."""
    if prototypes is None or not rows:
        return np.zeros((0, length), np.float32)
    if prototypes.vectors.shape != (len(prototypes.labels), length) or not np.isfinite(prototypes.vectors).all():
        raise ValueError(f"prototypes are {prototypes.vectors.shape}, not finite vectors of length {length}")
    return unit(prototypes.vectors[rows].astype(np.float32))
