"""What the learner does, as `watch` yields it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from ._results import Accuracy, Phase


@dataclass(frozen=True, kw_only=True, slots=True)
class PhaseChanged:
    """The learner does something else from now on."""

    phase: Phase
    reason: str
    """What started it, for people."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far a step has come."""

    version: int
    """The number the version will have."""
    stage: str
    """"train", "rebalance", "exemplars", "evaluate" or "export"."""
    done: int
    """Epochs or parts, of `total`."""
    total: int
    loss: float
    """Mean training loss of the last epoch; NaN in stages that have none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VersionCommitted:
    """A step has ended in a new version."""

    version: int
    new_labels: tuple[str, ...]
    accuracy: Accuracy
    step_seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class VersionActivated:
    """A version is to go live on all servers."""

    version: int
    pinned: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class StepRejected:
    """A candidate did not pass the gate; the old version serves on."""

    version: int
    reason: str
    accuracy: Accuracy


@dataclass(frozen=True, kw_only=True, slots=True)
class StepFailed:
    """A step ended without a candidate."""

    reason: str
    attempt: int
    """Failures in a row on these inputs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassForgotten:
    """A class was removed by request."""

    label: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassProvisional:
    """A new class can be predicted from its prototype, before any training step."""

    label: str
    examples: int
    """Examples that the prototype is the mean of."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExamplesReviewed:
    """Examples were set aside for review rather than learned. `Client.review` lists all that are."""

    label: str
    examples: int
    """Set aside now."""
    reasons: tuple[str, ...]
    """Why, for some of them at least: "contradiction", "duplicates", "burst", "share"."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Unrecognised:
    """An event of a newer server that this client does not know."""


What: TypeAlias = (
    PhaseChanged
    | Progress
    | VersionCommitted
    | VersionActivated
    | StepRejected
    | StepFailed
    | ClassForgotten
    | ClassProvisional
    | ExamplesReviewed
    | Unrecognised
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """One thing that happened. `match event.what: case VersionCommitted(version=number): ...`"""

    id: str
    """Grows with time; `watch(after=event.id)` goes on from here."""
    time_ms: int
    """Milliseconds since 1970, by the store's clock."""
    kind: str
    """phase, progress, committed, activated, rejected, failed, forgotten, provisional or reviewed; empty if unknown."""
    what: What
