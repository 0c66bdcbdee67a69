"""Names that classes had before they were renamed or merged, and what became of each.

An example's id is remembered with the label and the generation that it was stored under. A renaming leaves these as
they are and says once what the label of that generation is called from then on; the label itself begins a new
generation, so that it may be taught again as another class.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from accrete_storage.redis.database import Database
from accrete_storage.redis.keys import Keys

LEARNED = "0-1"
"""Position, before all others, of what a class had learned when it became part of another one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rename:
    """One class that was renamed, or became part of another."""

    revision: int
    """The store's, which it made."""
    label: str
    new_label: str
    merged: bool
    """Whether `new_label` was a class before."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Resolved:
    """What a label of some time is called now."""

    label: str
    merged: bool
    """Whether it became part of another class on the way."""


class Renames:
    """All that were renamed or merged so far."""

    def __init__(self, stored: Mapping[bytes, bytes] | None = None, generations: Mapping[bytes, bytes] | None = None):
        """Take what `Keys.renamed` and `Keys.generations` hold; nothing of both says that no class ever was."""
        self._generations = {label.decode(): int(number) for label, number in (generations or {}).items()}
        self._next: dict[tuple[str, int], tuple[Rename, int]] = {}
        for name, value in (stored or {}).items():
            generation, _, label = name.decode().partition("|")
            revision, new_generation, merged, new_label = value.decode().split("|", 3)
            rename = Rename(revision=int(revision), label=label, new_label=new_label, merged=merged == "1")
            self._next[label, int(generation)] = rename, int(new_generation)

    def resolve(self, label: str, generation: int) -> Resolved | None:
        """Return what a label of a generation is called now, or None when the class was forgotten since."""
        merged = False
        while found := self._next.get((label, generation)):
            rename, generation = found
            label, merged = rename.new_label, merged or rename.merged
        return Resolved(label=label, merged=merged) if self._generations.get(label, 0) == generation else None

    def last_of(self, label: str) -> Rename | None:
        """Return how a label ceased to be a class, unless it was forgotten."""
        found = self._next.get((label, self._generations.get(label, 0) - 1))
        return found and found[0]

    def former(self) -> dict[str, tuple[str, ...]]:
        """Return by label the other labels that its examples came under."""
        names: dict[str, list[str]] = {}
        for label, generation in self._next:
            now = self.resolve(label, generation)
            if now is not None and label != now.label:
                names.setdefault(now.label, []).append(label)
        return {label: tuple(dict.fromkeys(found)) for label, found in names.items()}

    def after(self, revision: int) -> list[Rename]:
        """Return those that came after a revision of the store, oldest first."""
        found = (rename for rename, _ in self._next.values() if rename.revision > revision)
        return sorted(found, key=lambda rename: rename.revision)


def called_now(label: str, renames: Iterable[Rename]) -> str:
    """Return what a label of some time is called after all that were renamed or merged since, oldest first."""
    for rename in renames:
        if rename.label == label:
            label = rename.new_label
    return label


def read_renames(database: Database, keys: Keys) -> tuple[Renames, int]:
    """Return all renames, and the revision that the last of them made, 0 without any."""
    with database.transaction() as pipeline:
        pipeline.hgetall(keys.renamed)
        pipeline.hgetall(keys.generations)
        pipeline.hget(keys.state, "renamed")
        stored, generations, last = pipeline.execute()
    return Renames(stored, generations), int(last or 0)
