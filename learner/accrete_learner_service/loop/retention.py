"""Which versions' files are removed. The newest stay for a roll-back, and whatever is active or newest stays anyway."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence

from accrete_kit.failpoints import around
from accrete_learner_service.runtime.logs import fields
from accrete_model.artifact_store import ArtifactStore
from accrete_storage.errors import StorageError, VersionUnusable
from accrete_storage.store import Store
from accrete_storage.versions.record import VersionRecord

log = logging.getLogger(__name__)


def to_retire(versions: Sequence[VersionRecord], *, active: int, keep: int) -> list[int]:
    """Return the ready versions beyond the newest `keep`, without the active one, which is the pinned one if one is."""
    ready = sorted((record.version for record in versions if record.state == "ready"), reverse=True)
    return [version for version in ready[keep:] if version != active]


def to_remove(versions: Sequence[VersionRecord], files: Collection[int], *, upto: int) -> list[int]:
    """Return the folders of retired versions, and of none, which a learner published and did not come to commit."""
    ready = {record.version for record in versions if record.state == "ready"}
    return sorted(version for version in set(files) - ready if version <= upto)


def to_drop(versions: Sequence[VersionRecord], *, keep: int) -> list[int]:
    """Return the versions whose record goes: all but the newest `keep`, unless they may still serve."""
    newest_first = sorted(versions, key=lambda record: -record.version)
    return [record.version for record in newest_first[keep:] if record.state != "ready"]


def drop_records(store: Store, *, keep: int) -> None:
    """Drop the oldest records of a method that makes versions by the second. Only between steps.

    Raises:
        StoreUnavailable: the store does not answer.
    """
    store.registry.drop(to_drop(store.registry.versions(), keep=keep))


def retire(store: Store, artifacts: ArtifactStore, *, keep: int, epoch: int) -> None:
    """Mark versions retired, then remove files that no version needs. Only between steps.

    In this order, so that a kill in between leaves files without a use rather than a version without files. Up to the
    greatest number in use now, lest a learner that stalls here removes what the next one publishes.

    Raises:
        Fenced: another learner holds the lease.
        StoreUnavailable: the store does not answer.
    """
    upto = store.registry.greatest_number(epoch)
    for version in to_retire(store.registry.versions(), active=store.registry.state().version, keep=keep):
        try:
            with around("retire"):
                store.registry.mark_retired(version)
        except VersionUnusable as error:  # it was activated in between
            log.info("version.not_retired", extra=fields(version=version, reason=str(error)))
            continue
        log.info("version.retired", extra=fields(version=version))
    for version in to_remove(store.registry.versions(), artifacts.list(), upto=upto):
        try:
            artifacts.remove(version)
        except (OSError, StorageError) as error:
            log.warning("version.not_removed", extra=fields(version=version, reason=str(error)))
    artifacts.clean(upto)
