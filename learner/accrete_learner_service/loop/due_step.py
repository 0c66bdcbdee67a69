"""A step that is due, through its failed attempts."""

from __future__ import annotations

from dataclasses import dataclass, replace

from accrete_learner_service.trigger import Decision


@dataclass(frozen=True, kw_only=True)
class DueStep:
    """A step that is due, until it is done or its examples are in quarantine."""

    decision: Decision
    failures: int = 0
    """Failed attempts in a row."""
    restarts: int = 0
    """Times in a row that it was begun anew since something that it learned from was deleted."""
    not_before_s: float = 0.0
    """When the next attempt may start, by `time.monotonic`."""
    blocked: str = ""
    """Why it cannot start from the version that it should; it is tried until it can."""
    rest: tuple[Decision, ...] = ()
    """Other parts of a step that failed as a whole, to be tried after this one."""

    def then(self) -> DueStep | None:
        """Return what is due once this has come to its end."""
        return DueStep(decision=self.rest[0], rest=self.rest[1:]) if self.rest else None

    def halves(self) -> DueStep:
        """Return the first half of its labels, which the other half follows."""
        labels = sorted(self.decision.labels)
        first, second = labels[: len(labels) // 2], labels[len(labels) // 2 :]
        parts = (replace(self.decision, labels=frozenset(part)) for part in (first, second))
        return DueStep(decision=next(parts), rest=(*parts, *self.rest))
