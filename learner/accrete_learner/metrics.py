"""The papers' metrics as pure functions over hits per class. Standard library alone.

An accuracy over several classes counts examples and not classes. It is all hits over all examples, as in the papers'
balanced test sets. Where nothing was measured, the result is None and never 0.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Tally:
    """Of one class's `total` examples, `hits` have it as their first prediction."""

    hits: int
    total: int

    def __post_init__(self) -> None:
        if not 0 <= self.hits <= self.total:
            raise ValueError(f"hits = {self.hits}: must be 0 to total = {self.total}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Accuracy:
    """The accuracy of a version on the hold-out, with the fields of the registry's `accuracy`."""

    all: float | None
    old: float | None
    new: float | None
    average_incremental: float | None
    forgetting: float | None
    examples: int
    new_examples: int
    """Those that `new` is of; `old` is of the others."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name, for JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


def accuracy(tallies: Mapping[str, Tally], labels: Collection[str] | None = None) -> float | None:
    """Return hits over examples of `labels` (of all for None), or None when they have no examples."""
    chosen = [tally for label, tally in tallies.items() if labels is None or label in labels]
    total = sum(tally.total for tally in chosen)
    return sum(tally.hits for tally in chosen) / total if total else None


def class_accuracy(tallies: Mapping[str, Tally]) -> dict[str, float]:
    """Return the accuracy of each class that has examples."""
    return {label: tally.hits / tally.total for label, tally in tallies.items() if tally.total}


def average_incremental_accuracy(accuracies: Iterable[float | None]) -> float | None:
    """Return the mean over versions of the accuracy on all classes known by then, the first (base) version included.

    Source: Rebuffi et al., iCaRL (CVPR 2017), section 4.
    """
    measured = [value for value in accuracies if value is not None]
    return sum(measured) / len(measured) if measured else None


def forgetting(earlier: Sequence[Mapping[str, float]], now: Mapping[str, float]) -> float | None:
    """Return the mean over old classes of the best earlier accuracy minus the present one.

    It is negative when they gained, and None without old classes.

    Args:
        earlier: accuracy per class of each earlier version.
        now: accuracy per class of this version; a class in `now` and in any of `earlier` is old.

    Source: Chaudhry et al., Riemannian Walk (ECCV 2018), section 3.3, per class in place of per task.
    """
    best: dict[str, float] = {}
    for version in earlier:
        for label, value in version.items():
            best[label] = max(value, best.get(label, 0.0))
    drops = [best[label] - value for label, value in now.items() if label in best]
    return sum(drops) / len(drops) if drops else None


def summarise(
    tallies: Mapping[str, Tally],
    *,
    new_labels: Collection[str],
    earlier_accuracy: Sequence[float | None],
    earlier_class_accuracy: Sequence[Mapping[str, float]],
) -> Accuracy:
    """Return all metrics of one version.

    Args:
        tallies: of the version, per label, on the hold-out.
        new_labels: labels that this version is the first to know; the others are old.
        earlier_accuracy: accuracy on all classes of each earlier version in its line, oldest first.
        earlier_class_accuracy: accuracy per class of the same versions.
    """
    old_labels = set(tallies) - set(new_labels)
    overall = accuracy(tallies)
    return Accuracy(
        all=overall,
        old=accuracy(tallies, old_labels),
        new=accuracy(tallies, new_labels),
        average_incremental=average_incremental_accuracy([*earlier_accuracy, overall]),
        forgetting=forgetting(earlier_class_accuracy, class_accuracy(tallies)),
        examples=sum(tally.total for tally in tallies.values()),
        new_examples=sum(tally.total for label, tally in tallies.items() if label in new_labels),
    )
