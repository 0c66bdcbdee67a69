"""Which labels a version knows, which were lost with versions that were given up, and how far each was learned."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from accrete_storage.store import Store
from accrete_storage.versions.record import VersionRecord


def known_labels(version: VersionRecord | None, forgotten: Mapping[str, int]) -> tuple[str, ...]:
    """Return a version's labels, in its head's order, without those forgotten since its inputs were read."""
    return () if version is None else version.kept_labels(forgotten)


def lost_labels(store: Store, known: Collection[str]) -> frozenset[str]:
    """Return the labels with a memory that are not `known`.

    Only versions that were given up knew them, so they are to be learned again from their exemplars.

    Raises:
        StoreUnavailable: the store does not answer.
    """
    return frozenset(store.memory.labels()).difference(known)


def learned_positions(versions: Sequence[VersionRecord]) -> dict[str, str]:
    """Return by label the last position that any of the versions, oldest first, has learned.

    A version that was given up counts too, for what it took in is not pending any more.
    """
    learned: dict[str, str] = {}
    for record in versions:
        if record.state != "rejected":
            learned |= record.learned
    return learned
