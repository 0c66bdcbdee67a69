"""The record of a model version, which is everything about it but its files."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

VersionState = Literal["ready", "rejected", "retired"]


@dataclass(frozen=True, kw_only=True)
class VersionRecord:
    """One version as the registry keeps it."""

    version: int
    state: VersionState
    parent: int
    """The version it was trained from; 0 for none."""
    created_ms: int
    """Milliseconds since 1970."""
    labels: list[str]
    """In the order of the head's rows, whose own names in the files may be earlier ones. "" for a row whose class is
    gone and whose label is another's now; one label for several rows whose classes were merged since."""
    new_labels: list[str]
    method: str
    digest: str
    """SHA-256 in hex of the artifact's manifest; empty for a candidate without files."""
    accuracy: dict[str, Any]
    """all, old, new, average_incremental, forgetting (0 to 1 or None), examples and new_examples, on the hold-out."""
    class_accuracy: dict[str, float]
    """By label, 0 to 1."""
    step_seconds: float
    stage_seconds: dict[str, float]
    learned: dict[str, str]
    """By label, the last position of its stream that this version or one before it has learned."""
    revision: int
    """The store's revision of deletions when the step's inputs were read."""
    since: dict[str, int]
    """By label, the version that first knew it."""
    reason: str = ""
    """Why it was rejected or given up, or could not be judged, or what a deep step gained."""
    consumed: dict[str, int] = field(default_factory=dict)
    """By label, how many pending examples this step took in (hold-out included)."""
    step_id: str = ""
    """The step that made it; committing the same step again changes nothing."""
    class_examples: dict[str, int] = field(default_factory=dict)
    """By label, how many examples `class_accuracy` is measured on; empty in records of earlier releases."""
    gate: dict[str, float | None] = field(default_factory=dict)
    """What the gate held against what: old_before and old_after (0 to 1, or None), max_old_drop, min_new. Empty where
    it was open, for a first version, and in records of earlier releases."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Labels in the head's order, each once, forgotten ones too."""
        return tuple(dict.fromkeys(filter(None, self.labels)))

    def kept_labels(self, forgotten: Mapping[str, int]) -> tuple[str, ...]:
        """Return the labels, in the head's order, each once, without those forgotten since the inputs were read.

        Args:
            forgotten: see `Registry.forgotten`.
        """
        return tuple(label for label in self.classes if forgotten.get(label, 0) <= self.revision)

    def row_labels(self, forgotten: Mapping[str, int]) -> tuple[str, ...]:
        """Return the label of each row of the head, "" for a row that is not answered.

        Args:
            forgotten: see `Registry.forgotten`.
        """
        kept = set(self.kept_labels(forgotten))
        return tuple(label if label in kept else "" for label in self.labels)

    def to_json(self) -> str:
        """Return the record as one JSON object."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=True, allow_nan=False)

    @staticmethod
    def from_json(text: str | bytes) -> "VersionRecord":
        """Return the record that `to_json` wrote, without fields that a newer release added."""
        known = {item.name for item in dataclasses.fields(VersionRecord)}
        return VersionRecord(**{name: value for name, value in json.loads(text).items() if name in known})
