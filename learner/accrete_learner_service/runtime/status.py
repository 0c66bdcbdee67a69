"""The words for what the learner does, for how far a step is, and for how it ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Status = Literal["waiting", "staging", "training", "gating", "committing", "paused", "blocked"]
STATUSES: tuple[str, ...] = get_args(Status)

Outcome = Literal["committed", "rejected", "failed", "discarded"]
"""`discarded`: given up from outside (examples deleted, lease lost, shutdown, store away) and run again."""
OUTCOMES: tuple[str, ...] = get_args(Outcome)


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far the trainer is."""

    stage: str
    done: int
    total: int
    loss: float | None
