"""What the learner does, as `watch` yields it: each event is of the class of what happened, so that

    match event:
        case VersionCommitted(version=number): ...

works, and type checkers know which fields there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self, TypeAlias

from ._results import Accuracy, Phase


@dataclass(frozen=True, kw_only=True, slots=True)
class _Happened:
    """What every event has."""

    kind: ClassVar[str] = ""
    """Its name on the wire; empty if unknown."""

    id: str = ""
    """Grows with time; `watch(after=event.id)` goes on from here."""
    time_ms: int = 0
    """Milliseconds since 1970, by the store's clock."""

    @property
    def what(self) -> Self:
        """The event itself, for callers that were written when it was apart from id and time."""
        return self


@dataclass(frozen=True, kw_only=True, slots=True)
class PhaseChanged(_Happened):
    """The learner does something else from now on."""

    kind: ClassVar[str] = "phase"

    phase: Phase
    reason: str
    """What started it, for people."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress(_Happened):
    """How far a step has come."""

    kind: ClassVar[str] = "progress"

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
class VersionCommitted(_Happened):
    """A step has ended in a new version."""

    kind: ClassVar[str] = "committed"

    version: int
    new_labels: tuple[str, ...]
    accuracy: Accuracy
    step_seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class VersionActivated(_Happened):
    """A version is to go live on all servers."""

    kind: ClassVar[str] = "activated"

    version: int
    pinned: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class StepRejected(_Happened):
    """A candidate did not pass the gate; the old version serves on."""

    kind: ClassVar[str] = "rejected"

    version: int
    """0 for a deep step, which has a number only when it is kept."""
    reason: str
    accuracy: Accuracy


@dataclass(frozen=True, kw_only=True, slots=True)
class StepFailed(_Happened):
    """A step ended without a candidate."""

    kind: ClassVar[str] = "failed"

    reason: str
    attempt: int
    """Failures in a row on these inputs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepDiscarded(_Happened):
    """A step was given up for a reason not its own, such as a deletion of what it learned from, and is run anew."""

    kind: ClassVar[str] = "discarded"

    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassForgotten(_Happened):
    """A class was removed by request."""

    kind: ClassVar[str] = "forgotten"

    label: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassRenamed(_Happened):
    """A class has another label from here on, in all versions, or is part of another class."""

    kind: ClassVar[str] = "renamed"

    label: str
    new_label: str
    merged: bool
    """Whether there was a class with the new label, of which it is part now."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassProvisional(_Happened):
    """A new class can be predicted from its prototype, before any training step."""

    kind: ClassVar[str] = "provisional"

    label: str
    examples: int
    """Examples that the prototype is the mean of."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExamplesReviewed(_Happened):
    """Examples were set aside for review rather than learned. `Client.review` lists all that are."""

    kind: ClassVar[str] = "reviewed"

    label: str
    examples: int
    """Set aside now."""
    reasons: tuple[str, ...]
    """Why, for some of them at least: "contradiction", "duplicates", "burst", "share"."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Unrecognised(_Happened):
    """An event of a newer server that this client does not know."""


Event: TypeAlias = (
    PhaseChanged
    | Progress
    | VersionCommitted
    | VersionActivated
    | StepRejected
    | StepFailed
    | StepDiscarded
    | ClassForgotten
    | ClassRenamed
    | ClassProvisional
    | ExamplesReviewed
    | Unrecognised
)
"""One thing that happened. All have `id`, `time_ms` and `kind`."""

KINDS: dict[str, type[Event]] = {
    one.kind: one
    for one in (
        PhaseChanged,
        Progress,
        VersionCommitted,
        VersionActivated,
        StepRejected,
        StepFailed,
        StepDiscarded,
        ClassForgotten,
        ClassRenamed,
        ClassProvisional,
        ExamplesReviewed,
    )
}
"""The classes by their names on the wire."""
