"""What the demonstration measures, on test images that nobody trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from accrete import Client
from accrete_experiments.live.data import Split
from accrete_learner.metrics import Tally, accuracy, average_incremental_accuracy, class_accuracy, forgetting

BATCH = 32


@dataclass(frozen=True, kw_only=True)
class VersionRow:
    """One version's figures; accuracies 0 to 1 on the test set."""

    version: int
    classes: int
    accuracy: float
    accuracy_old: float | None
    accuracy_new: float | None
    forgetting: float | None
    seconds: float
    """From the last acknowledgement to the live version."""
    step_seconds: float
    predict_p50_idle_ms: float | None
    predict_p99_idle_ms: float | None
    predict_p50_learning_ms: float | None
    predict_p99_learning_ms: float | None
    predicts_failed: int


@dataclass
class History:
    """Accuracy by class after each version."""

    by_version: list[dict[str, float]] = field(default_factory=list)
    overall: list[float] = field(default_factory=list)

    def add(self, tallies: Mapping[str, Tally]) -> float | None:
        """Note a version's answers; answers its forgetting (None for the first)."""
        now = class_accuracy(tallies)
        lost = forgetting(self.by_version, now)
        self.by_version.append(now)
        self.overall.append(accuracy(tallies) or 0.0)
        return lost

    def average_incremental(self) -> float:
        """Mean of the overall accuracy over all versions, the first one included."""
        return average_incremental_accuracy(self.overall) or 0.0


def measure(client: Client, test: Split) -> dict[str, Tally]:
    """Right answers by class, of the live version."""
    hits: dict[str, list[bool]] = {label: [] for label in dict.fromkeys(test.labels)}
    for start in range(0, len(test.labels), BATCH):
        part = slice(start, start + BATCH)
        for label, answer in zip(test.labels[part], client.predict(list(test.images[part]), top_k=1), strict=True):
            hits[label].append(answer.label == label)
    return {label: Tally(hits=int(np.sum(right)), total=len(right)) for label, right in hits.items()}


def accuracy_of(tallies: Mapping[str, Tally], labels: Sequence[str]) -> float | None:
    """Accuracy on some classes; None when there are none."""
    return accuracy(tallies, labels) if labels else None
