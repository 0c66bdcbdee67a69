"""The words for what the learner does, and for how a step ends."""

from __future__ import annotations

from typing import Literal

PHASES = ("waiting", "staging", "training", "gating", "committing", "paused", "blocked")

Outcome = Literal["committed", "rejected", "failed", "discarded"]
"""`discarded`: given up from outside (examples deleted, lease lost, shutdown, store away); it is run again."""
