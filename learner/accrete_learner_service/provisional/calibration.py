"""The margin by which a prototype must be ahead of the trained classes before it is answered, set on the hold-out.

Shapes: H hold-out examples, P prototypes, d feature length.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Mapping, Sequence

import numpy as np

from accrete_learner_service.config import LearnerServiceConfig
from accrete_learner_service.evaluation.measure import MAX_KEPT, compute_features
from accrete_learner_service.runtime.logs import fields
from accrete_model.loaded_version import LoadedVersion
from accrete_model.vectors import Floats, unit
from accrete_storage.errors import StoreUnavailable
from accrete_storage.store import Store

log = logging.getLogger(__name__)

MAX_HOLDOUT = MAX_KEPT
"""Hold-out examples that calibrate, at most: a share of 5 % is then known to 0.7 %, after a second of ResNet-32 on one
core."""
LOWEST = -1.0
"""Of all margins: with it a prototype at a right angle is as near as a mean that is met exactly."""


class Calibration:
    """A version's answers to the hold-out of the classes that it knows, computed slice by slice. For one thread."""

    def __init__(self, store: Store, loaded: LoadedVersion, computed: Mapping[str, Floats] | None = None) -> None:
        """Prepare to calibrate `loaded`, with the features [d] of hold-out examples that are computed by now, by id."""
        self._store = store
        self._loaded = loaded
        self._classifier = loaded.classifier()
        self._features: dict[str, Floats] = {}
        """By an example's id [d]."""
        self._before = dict(computed or {})
        """The same from elsewhere, or from before a restart, which a deletion was the reason of: to be taken over."""
        self._directions: list[Floats] = []
        """A label's at a time, [h, d]."""
        self._strengths: list[Floats] = []
        """Of the class that is answered [h]; infinite where it is not the right one, which nobody can take away."""
        self._todo: list[str] = []
        self._each = 0

    def restart(self, rows: Sequence[str]) -> None:
        """Begin with the hold-out of what the version predicts.

        Args:
            rows: what each row of it is called now, "" for one that is not answered.
        """
        labels = set(filter(None, rows))
        self._classifier = self._loaded.classifier(labels=rows)
        # In no order, so that those that came first stand for all until all are there.
        self._todo = random.Random(0).sample(sorted(labels), min(len(labels), MAX_HOLDOUT))
        self._each = MAX_HOLDOUT // max(1, len(self._todo))
        self._directions, self._strengths = [], []
        self._before |= self._features
        self._features = {}

    @property
    def complete(self) -> bool:
        """Whether all that is to be computed is."""
        return not self._todo

    def go_on(self, seconds: float) -> None:
        """Compute for about that long, one label at least.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        until = time.monotonic() + seconds
        while self._todo:
            label = self._todo[-1]
            try:
                self._add(label)
            except StoreUnavailable:
                raise
            except Exception as error:
                # One class with an example that cannot be read or computed must not end the learner.
                log.warning("holdout.unusable", extra=fields(label=label, reason=str(error)))
            self._todo.pop()
            if time.monotonic() > until:
                break
        if self.complete:
            self._before = {}

    def margin(self, vectors: Sequence[Floats], max_drop: float) -> float:
        """Return the margin at which known classes lose at most `max_drop` of their accuracy to prototypes [d] each."""
        if not vectors or not self._directions:
            return 0.0
        leads = (np.concatenate(self._directions) @ np.stack(vectors).T).max(axis=1) - np.concatenate(self._strengths)
        return margin_of(leads, max_drop)

    def _add(self, label: str) -> None:
        examples = self._store.memory.holdout(label, self._each)
        if not examples:
            return
        missing = [example for example in examples if example.id not in self._before]
        fresh = dict(zip([example.id for example in missing], compute_features(self._loaded, missing), strict=True))
        self._before |= fresh
        own = {example.id: self._before[example.id] for example in examples}
        features = np.stack(list(own.values()))  # [h, d]
        strengths = self._classifier.strengths(features)
        right = np.array([self._classifier.labels[row] == label for row in strengths.argmax(axis=1)])
        self._features |= own
        self._directions.append(unit(features))
        self._strengths.append(np.where(right, strengths.max(axis=1), np.float32(np.inf)))


def allowed_drop(config: LearnerServiceConfig, *, new: int, known: int) -> float:
    """Return the accuracy that `known` classes may lose to `new` provisional ones.

    What is configured and what the gate allows, but no more than the provisional ones' share of the classes, or one new
    class would cost as much among thousands as among ten.
    """
    gate = config.gate.max_old_drop if config.gate.enabled else 1.0
    return min(config.provisional_max_drop, gate, new / max(1, new + known))


def margin_of(leads: Floats, max_drop: float) -> float:
    """Return the smallest margin that takes right answers from at most a share `max_drop` of images like these.

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
