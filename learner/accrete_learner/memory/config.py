"""How many exemplars may be kept, and each class's share of them."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class MemoryConfig:
    """The exemplar memory's size. The papers use both kinds, so a figure must say which it has.

    Raises:
        ValueError: on a field out of range.
    """

    kind: Literal["per_class", "total"] = "per_class"
    """`per_class`: each class keeps `size` for ever, so memory grows with the classes. `total`: all classes share
    `size`, so each keeps fewer as classes come."""
    size: int = 20
    """Exemplars. 20 per class is LUCIR's setting for CIFAR-100, 2000 in total is iCaRL's."""

    def __post_init__(self) -> None:
        if self.kind not in ("per_class", "total"):
            raise ValueError(f"kind = {self.kind!r}: must be 'per_class' or 'total'")
        if not 0 <= self.size <= 10_000_000:
            raise ValueError(f"size = {self.size!r}: must be 0 to 10000000")

    def per_class(self, classes: int) -> int:
        """Return the exemplars that each of `classes` classes may keep, rounded down so that a total is never exceeded.

        Raises:
            ValueError: when `classes` is below 1.
        """
        if classes < 1:
            raise ValueError(f"classes = {classes}: must be at least 1")
        return self.size if self.kind == "per_class" else self.size // classes

    def too_small(self, classes: int) -> str:
        """Return, for people, that a total keeps no exemplar of so many classes; empty where it does, or is to be 0."""
        if not self.size or not classes or self.per_class(classes):
            return ""
        return (
            f"memory.size = {self.size} in total is less than one exemplar for each of {classes} classes, so none is "
            f"kept of any: set it to {classes} or more, or memory.kind to per_class"
        )
