"""What a protocol measures, as it is written to JSON. Standard library alone."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

#: Keys of a protocol as earlier releases wrote them, with what they are called now.
_RENAMED = {"network": "model", "budget": "memory"}
#: Key of a run's tasks as earlier releases wrote it.
_FORMER_TASKS = "phases"


def with_current_names(protocol: Mapping[str, Any]) -> dict[str, Any]:
    """Return a protocol as this release writes it, from one that it or an earlier release wrote."""
    return {_RENAMED.get(name, name): value for name, value in protocol.items()}


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Answers of one rule on the test images of all classes seen so far."""

    hits: tuple[int, ...]
    """By class, in order of arrival: test images answered with it first (top-1)."""
    hits5: tuple[int, ...]
    """Likewise among the first five answers (all of them where there are fewer classes)."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One step of a run, measured after it."""

    number: int
    """1 for the first (base) task."""
    class_counts: tuple[int, ...]
    """Classes that arrived in each task up to this one; their sum is the number of classes seen."""
    totals: tuple[int, ...]
    """Test images of each class seen, in order of arrival."""
    scores: Mapping[str, Scores]
    """By rule: `head` (the papers' CNN column) and `nme` always, `knn`, `mlp` or `svm` where the method predicts so."""
    exemplars: int
    """Exemplars in the memory after the task."""
    images: int
    """Images that training took: examples times epochs, without rebalancing."""
    seconds: Mapping[str, float]
    """Wall time by stage of the step, measuring left out."""

    @property
    def classes(self) -> int:
        """Classes seen."""
        return sum(self.class_counts)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """Read what `asdict` wrote."""
        scores = {
            rule: Scores(hits=tuple(found["hits"]), hits5=tuple(found["hits5"]))
            for rule, found in raw["scores"].items()
        }
        return cls(
            number=raw["number"],
            class_counts=tuple(raw["class_counts"]),
            totals=tuple(raw["totals"]),
            scores=scores,
            exemplars=raw["exemplars"],
            images=raw["images"],
            seconds=dict(raw["seconds"]),
        )


@dataclass(frozen=True, kw_only=True)
class Run:
    """One method with one seed through all tasks, or as far as it came."""

    method: str
    """Its name, with `+selection` and `@rule` behind it where those replace the method's own."""
    seed: int
    """Of every random choice, and of the class order where that is not 1993's."""
    protocol: Mapping[str, Any]
    """The settings shared by all methods of a comparison: data, classes, order, memory, epochs, augmentation."""
    labels: tuple[str, ...]
    """Names of all classes of the protocol, in order of arrival."""
    tasks: tuple[Task, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote.

        Raises:
            KeyError: when a field is missing.
        """
        return cls(
            method=raw["method"],
            seed=raw["seed"],
            protocol=with_current_names(raw["protocol"]),
            labels=tuple(raw["labels"]),
            tasks=tuple(Task.from_dict(task) for task in raw.get(_FORMER_TASKS) or raw["tasks"]),
        )
