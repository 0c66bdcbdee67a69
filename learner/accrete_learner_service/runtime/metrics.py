"""The learner's metrics for Prometheus. No user's text is ever a label."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from accrete_learner.metrics import Accuracy
from accrete_learner_service.runtime.status import OUTCOMES, STATUSES, Outcome, Status

#: Seconds: 0.1 s to 6 h in steps of about three.
STEP_EDGES = (0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3600, 10800, 21600)
#: Stages of a step that a histogram is kept of; a trainer's own ones are in the version's record.
STAGES = ("staging", "training", "gating", "publishing", "committing", "total")
NOTHING = float("nan")


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What the store holds, counted."""

    pending_new: int
    """Pending examples of classes that the newest version does not know."""
    pending_known: int
    """Pending examples of classes that it knows."""
    pending_quarantined: int
    """Pending examples in quarantine after failed or rejected steps; not in the other two."""
    pending_awaiting: int
    """Pending examples of new labels that await approval; in none of the others."""
    review: int
    """Examples set aside for review."""
    oldest_s: float
    """Age of the oldest pending example in seconds; 0 without any."""
    exemplars: int
    exemplar_bytes: int
    exemplar_budget: int
    """Exemplars allowed."""
    holdout: int
    classes: int
    """Classes of the newest version, forgotten ones not counted."""
    provisional: int
    """Classes answered from prototypes."""
    store_used: int
    """Bytes."""
    store_max: int
    """Bytes; 0: no limit."""


class Metrics:
    """All series, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._make_store_series()
        self._make_step_series()
        self._make_quality_series()

    def _make_store_series(self) -> None:
        self._pending = self._gauge("pending_examples", "Examples not yet learned.", "state")
        self._oldest = self._gauge("oldest_unlearned_seconds", "Age of the oldest pending example.")
        self._exemplars = self._gauge("exemplars", "Exemplars kept.")
        self._bytes = self._gauge("exemplar_bytes", "Bytes of the exemplars kept.")
        self._budget = self._gauge("exemplar_budget", "Exemplars allowed.")
        self._holdout = self._gauge("holdout_examples", "Examples that measure, never trained on.")
        self._classes = self._gauge("classes", "Classes by how far they have come.", "state")
        self._memory = self._gauge("store_memory_bytes", "Memory of the store; max 0 means no limit.", "kind")

        self._up = self._gauge("store_up", "1 while the store answers this learner.")

    def _make_step_series(self) -> None:
        self._status = self._gauge("learner_phase", "1 for what the learner does now.", "phase")
        self._seconds = Histogram(
            "accrete_step_seconds",
            "Seconds of committed and rejected steps, by stage.",
            ["stage"],
            buckets=STEP_EDGES,
            registry=self.registry,
        )
        self._steps = Counter("accrete_steps", "Steps, by how they ended.", ["outcome"], registry=self.registry)
        self._reviewed = Counter(
            "accrete_reviewed_examples", "Examples set aside for review, by why.", ["reason"], registry=self.registry
        )
        self._duty_cycle = self._gauge("training_share", "Share of the time that a step may train; below 1 it yields.")
        self._loss = self._gauge("train_loss", "Mean training loss of the last epoch.")
        self._lease_held = self._gauge("learner_lease_held", "1 while this learner holds the lease.")
        self._lease_epoch = self._gauge("learner_lease_epoch", "Epoch of the lease that it holds, or held last.")
        self._committed = self._gauge("learner_last_commit_timestamp_seconds", "When a step was last committed.")
        for stage in STAGES:
            self._seconds.labels(stage)
        for outcome in OUTCOMES:
            self._steps.labels(outcome)
        for status in STATUSES:
            self._status.labels(status)

    def _make_quality_series(self) -> None:
        self._version = self._gauge("learner_version", "Number of the newest committed version.")
        self._accuracy = self._gauge("accuracy_ratio", "Accuracy of the newest version on the hold-out.", "classes")
        self._forgetting = self._gauge("forgetting_ratio", "Mean drop of old classes from their best accuracy.")
        self._average = self._gauge("average_incremental_accuracy_ratio", "Mean accuracy over the versions so far.")
        self._measured = self._gauge("accuracy_examples", "Hold-out examples that the accuracy was measured on.")

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"accrete_{name}", text, labels, registry=self.registry)

    def set_status(self, status: Status) -> None:
        """Set what the learner does now, so that one series is 1 and all others are 0."""
        for known in STATUSES:
            self._status.labels(known).set(1 if known == status else 0)

    def set_duty_cycle(self, duty_cycle: float) -> None:
        """Set the share of the time that a step may train."""
        self._duty_cycle.set(duty_cycle)

    def set_loss(self, loss: float) -> None:
        """Set the trainer's last loss."""
        self._loss.set(loss)

    def set_lease(self, epoch: int | None) -> None:
        """Set the epoch under which the lease is held, None while it is not."""
        self._lease_held.set(0 if epoch is None else 1)
        if epoch is not None:
            self._lease_epoch.set(epoch)

    def set_store_up(self, up: bool) -> None:
        """Set whether the store answered when last asked."""
        self._up.set(1 if up else 0)

    def count_step(self, outcome: Outcome, seconds: Mapping[str, float] | None = None) -> None:
        """Count a step that has ended, with its seconds by stage where it came to a candidate."""
        self._steps.labels(outcome).inc()
        for stage in STAGES:
            if seconds and stage in seconds:
                self._seconds.labels(stage).observe(seconds[stage])
        if outcome == "committed":
            self._committed.set(time.time())

    def count_reviewed(self, reason: str) -> None:
        """Count an example that was set aside for review."""
        self._reviewed.labels(reason).inc()

    def set_quality(self, version: int, accuracy: Mapping[str, float | int | None]) -> None:
        """Set the newest version's numbers, NaN where nothing was measured. The names are those of `Accuracy`."""
        assert set(accuracy) <= set(Accuracy.__slots__)
        self._version.set(version)
        for classes in ("all", "old", "new"):
            self._accuracy.labels(classes).set(_number(accuracy.get(classes)))
        self._forgetting.set(_number(accuracy.get("forgetting")))
        self._average.set(_number(accuracy.get("average_incremental")))
        self._measured.set(accuracy.get("examples") or 0)

    def set_snapshot(self, snapshot: Snapshot) -> None:
        """Set what the store holds."""
        self._pending.labels("new").set(snapshot.pending_new)
        self._pending.labels("known").set(snapshot.pending_known)
        self._pending.labels("held").set(snapshot.pending_quarantined)
        self._pending.labels("awaiting").set(snapshot.pending_awaiting)
        self._pending.labels("review").set(snapshot.review)
        self._oldest.set(snapshot.oldest_s)
        self._exemplars.set(snapshot.exemplars)
        self._bytes.set(snapshot.exemplar_bytes)
        self._budget.set(snapshot.exemplar_budget)
        self._holdout.set(snapshot.holdout)
        self._classes.labels("learned").set(snapshot.classes)
        self._classes.labels("provisional").set(snapshot.provisional)
        self._memory.labels("used").set(snapshot.store_used)
        self._memory.labels("max").set(snapshot.store_max)


def _number(value: float | None) -> float:
    return NOTHING if value is None else value
