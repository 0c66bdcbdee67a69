"""The rules for when a step starts and with what, as a pure function of what is pending."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from accrete_learner_service.config import TriggerConfig
from accrete_storage.examples.pending import PendingCount

Cause = Literal["count", "age", "hand", "outdated", "deep"]

#: A class in quarantine is tried again once it has this many times the examples that the failed step had.
QUARANTINE_GROWTH = 1.5
#: Labels that are named in what is waited for.
_TOLD = 5
#: Settling ends after this many times `settle_s`, whether or not examples still come.
SETTLE_LIMIT = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """A step is to start."""

    labels: frozenset[str]
    """Whose pending examples it takes."""
    reason: str
    """Why, as a sentence for people."""
    cause: Cause
    """Which rule started it. One by count may wait for the rest of an upload."""


def decide(
    pending: Mapping[str, PendingCount],
    *,
    known: Collection[str],
    quarantined: Mapping[str, int],
    config: TriggerConfig,
    now_ms: int,
    by_hand: bool = False,
) -> Decision | None:
    """Decide whether a step starts now.

    Args:
        pending: what is pending, by label.
        known: labels that the parent of the step knows.
        quarantined: examples that a class had when its step failed or was rejected. It is left out until there are
            `QUARANTINE_GROWTH` times as many, or a step is asked for by hand.
        config: the thresholds.
        now_ms: the time, in milliseconds since 1970.
        by_hand: whether an operator asked for it.

    Returns:
        None when nothing starts. There is no step without an example to train on: those for the hold-out alone wait,
        unless their class is new, which then trains on some of them.
    """
    free = {
        label: count
        for label, count in pending.items()
        if count.examples and (by_hand or not _stays_out(count, quarantined.get(label)))
    }
    if not any(_trainable(count) > 0 or label not in known for label, count in free.items()):
        return None
    if by_hand:
        return Decision(labels=frozenset(free), reason="asked for by hand", cause="hand")
    return _by_age(free, config, now_ms) or _by_count(free, known, config)


def waits_for(
    pending: Mapping[str, PendingCount],
    *,
    known: Collection[str],
    quarantined: Mapping[str, int],
    config: TriggerConfig,
    now_ms: int,
) -> list[str]:
    """Return what keeps a step from starting, as sentences for people; the parameters are those of `decide`.

    Nothing where a step starts, or nothing is pending but what is in quarantine.
    """
    free = {
        label: count
        for label, count in pending.items()
        if count.examples and not _stays_out(count, quarantined.get(label))
    }
    if not free or decide(pending, known=known, quarantined=quarantined, config=config, now_ms=now_ms) is not None:
        return []
    new = {label: count.examples for label, count in free.items() if label not in known}
    short = [
        f"{label} has {count} of {config.min_examples}"
        for label, count in sorted(new.items())
        if count < config.min_examples
    ]
    found = []
    if short:
        more = f" and {len(short) - _TOLD} more labels" if len(short) > _TOLD else ""
        found.append(f"examples of new labels: {', '.join(short[:_TOLD])}{more} (trigger.min_examples)")
    needed, setting = (
        (config.classes_per_step, "classes_per_step") if known else (config.first_classes, "first_classes")
    )
    ready = len(new) - len(short)
    if new and ready < needed:
        found.append(f"new labels with enough examples: {ready} of {needed} (trigger.{setting})")
    old = sum(_trainable(count) for label, count in free.items() if label in known)
    if old:
        found.append(f"new examples of known labels: {old} of {config.refresh_examples} (trigger.refresh_examples)")
    if new or old:
        left_s = max(0.0, config.max_wait_s - (now_ms - min(count.oldest_ms for count in free.values())) / 1000)
        found.append(f"or {left_s:.0f} s more, when the oldest has waited {config.max_wait_s:g} s (trigger.max_wait_s)")
    else:
        found.append("an example to train on: those that are pending are all set aside to measure by")
    return found


def _trainable(count: PendingCount) -> int:
    """Return how many examples a step surely trains on, since a full hold-out takes none."""
    return count.examples - count.holdout


def _stays_out(count: PendingCount, quarantined: int | None) -> bool:
    return quarantined is not None and count.examples < QUARANTINE_GROWTH * quarantined


def _by_age(free: Mapping[str, PendingCount], config: TriggerConfig, now_ms: int) -> Decision | None:
    oldest = min(count.oldest_ms for count in free.values())
    if now_ms - oldest < config.max_wait_s * 1000:
        return None
    reason = f"the oldest pending example has waited {config.max_wait_s:g} s"
    return Decision(labels=frozenset(free), reason=reason, cause="age")


def _by_count(free: Mapping[str, PendingCount], known: Collection[str], config: TriggerConfig) -> Decision | None:
    old = {label for label in free if label in known}
    ready = {label for label in free if label not in known and free[label].examples >= config.min_examples}
    fresh = sum(_trainable(free[label]) for label in old)
    needed = config.classes_per_step if known else config.first_classes
    if len(ready) >= needed:
        classes = "class" if len(ready) == 1 else "classes"
        reason = f"{len(ready)} new {classes} with at least {config.min_examples} examples each"
    elif fresh >= config.refresh_examples:
        reason = f"{fresh} new examples of known classes"
    else:
        return None
    return Decision(labels=frozenset(ready | old), reason=reason, cause="count")


class Settling:
    """Let a step by count wait until an upload has come to rest. Times are seconds of one monotonic clock."""

    def __init__(self, config: TriggerConfig) -> None:
        self._config = config
        self._arrived = -1
        self._changed_s = 0.0
        self._due_s: float | None = None

    def over(self, decision: Decision | None, arrived: int, now_s: float) -> bool:
        """Return whether what was decided may start.

        Args:
            decision: of this look; called at every look, so that it is known since when a step is due.
            arrived: examples that are pending.
            now_s: the time.
        """
        if arrived != self._arrived:
            self._arrived, self._changed_s = arrived, now_s
        if decision is None:
            self._due_s = None
            return False
        if self._due_s is None:
            self._due_s = now_s
        rested = now_s - self._changed_s >= self._config.settle_s
        patient = now_s - self._due_s < SETTLE_LIMIT * self._config.settle_s
        if decision.cause == "count" and not rested and patient:
            return False
        self._due_s = None
        return True
