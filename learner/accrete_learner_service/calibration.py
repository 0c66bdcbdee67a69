"""How far a prototype must be ahead of the trained classes before it is answered: set on the hold-out.

Shapes: H hold-out examples, P prototypes, d feature length.
"""

from __future__ import annotations

from collections.abc import Sequence, Set

import numpy as np

from accrete_engine.loaded import LoadedVersion
from accrete_engine.vectors import Floats, unit
from accrete_learner_service.measure import compute_features
from accrete_storage.example import Example
from accrete_storage.store import Store

MAX_HOLDOUT = 1000
"""Hold-out examples that calibrate, at most: a share of 2 % is then known to half a percent, after a second of
ResNet-32 on one core."""
LOWEST = -1.0
"""Of all margins: with it a prototype at a right angle is as near as a mean that is met exactly."""


class Calibration:
    """What one version answers to the hold-out of the classes that it knows. For one thread."""

    def __init__(self, loaded: LoadedVersion) -> None:
        self._loaded = loaded
        self._computed: dict[str, Floats] = {}
        """Features by an example's id: a deletion elsewhere computes none of them anew."""
        self._directions: Floats = np.zeros((0, loaded.feature_length), np.float32)  # [H, d]
        self._strengths: Floats = np.zeros(0, np.float32)
        """Of the class that is answered [H]; infinite where it is not the right one, which nobody can take away."""

    def refresh(self, store: Store, known: Set[str]) -> None:
        """Reads the hold-out of the labels `known`, which the version answers. Raises StoreUnavailable."""
        examples = read_holdout(store, [label for label in self._loaded.labels if label in known])
        missing = [example for example in examples if example.id not in self._computed]
        fresh = dict(zip([example.id for example in missing], compute_features(self._loaded, missing), strict=True))
        both = self._computed | fresh
        self._computed = {example.id: both[example.id] for example in examples}
        if not examples:
            self._directions, self._strengths = self._directions[:0], self._strengths[:0]
            return
        features = np.stack([both[example.id] for example in examples])
        answers = self._loaded.answers(frozenset(self._loaded.labels) - known)
        strengths = answers.strengths(features)
        best = strengths.argmax(axis=1)
        right = [answers.labels[row] == example.label for row, example in zip(best, examples, strict=True)]
        self._directions = unit(features)
        self._strengths = np.where(right, strengths.max(axis=1), np.inf).astype(np.float32)

    def margin(self, vectors: Sequence[Floats], max_drop: float) -> float:
        """The margin for prototypes [d] each at which the known classes lose at most `max_drop` of their accuracy."""
        if not vectors:
            return 0.0
        leads = (self._directions @ np.stack(vectors).T).max(axis=1) - self._strengths
        return margin_of(leads, max_drop)


def margin_of(leads: Floats, max_drop: float) -> float:
    """The smallest margin that takes right answers from at most a share `max_drop` of images like these.

    Args:
        leads: by how much the nearest prototype is ahead of the right answer [H]; -inf where the answer is wrong.
        max_drop: 0 to 1.

    The lead of another image of the same kind exceeds the k-th largest of H leads with a probability of at most
    k / (H + 1) (split conformal prediction: Vovk et al., Algorithmic Learning in a Random World, 2005). Too few
    examples for k = 1 prove nothing: the margin is then at least 0, which leaves the prototypes the share that the
    nearest-mean rule gives them.
    """
    if not len(leads):
        return 0.0
    allowed = min(int(max_drop * (len(leads) + 1) + 1e-9), len(leads))
    found = max(LOWEST, float(np.sort(leads)[::-1][max(allowed, 1) - 1]))
    return found if allowed else max(0.0, found)


def read_holdout(store: Store, labels: Sequence[str]) -> list[Example]:
    """At most `MAX_HOLDOUT` hold-out examples of the labels, evenly over them. Raises StoreUnavailable."""
    some = labels[:: -(-len(labels) // MAX_HOLDOUT)] if labels else []
    each = MAX_HOLDOUT // max(1, len(some))
    return [example for label in some for example in store.memory.holdout(label, each)]
