"""Which versions' files are removed. The newest stay for a roll-back, and whatever is active or newest stays anyway.

Frozen backbones that nothing refers to any more go after them.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import replace

from accrete_kit.failpoints import around
from accrete_learner_service.runtime.logs import fields
from accrete_model.artifact_store import ArtifactStore
from accrete_model.errors import BucketUnavailable, LoadError
from accrete_storage.errors import StorageError, VersionUnusable
from accrete_storage.store import Store
from accrete_storage.versions.record import VersionRecord

log = logging.getLogger(__name__)

#: Seconds for which a backbone stays that nothing refers to yet; far more than a step takes from putting it to its end.
YOUNG_BACKBONE_S = 3600.0


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


def clear_backbones(store: Store, artifacts: ArtifactStore, configured: str) -> None:
    """Remove frozen backbones that no version, no stored feature and not the configuration refers to. After `retire`.

    One that was put there within the hour stays: a step may be about to publish a version that refers to it. None goes
    while it cannot be told what a version refers to. Versions without files cannot be loaded, so no server is about to.

    Args:
        store: says what the features are of.
        artifacts: the versions.
        configured: digest of the configuration's backbone, "" for one that is trained.

    Raises:
        StoreUnavailable: the store does not answer.
    """
    try:
        if artifacts.list_backbones() <= {configured}:
            return
        referred = artifacts.referred()
    except (LoadError, BucketUnavailable) as error:
        log.warning("backbones.kept", extra=fields(reason=str(error)))
        return
    needed = {configured, store.features.backbone(), *referred}
    try:
        gone = artifacts.retain_backbones(needed, younger_s=YOUNG_BACKBONE_S)
    except (OSError, BucketUnavailable) as error:
        log.warning("backbones.not_removed", extra=fields(reason=str(error)))
        return
    if gone:
        log.info("backbones.removed", extra=fields(digests=[digest[:12] for digest in gone]))


def retire(
    store: Store,
    artifacts: ArtifactStore,
    versions: Sequence[VersionRecord],
    *,
    keep: int,
    epoch: int,
    keep_records: int | None = None,
) -> None:
    """Mark versions retired, then remove files and records that nothing needs. Only between steps.

    In this order, so that a kill in between leaves files without a use rather than a version without files. Up to the
    greatest number in use now, lest a learner that stalls here removes what the next one publishes.

    Args:
        store: holds the records.
        artifacts: hold the files.
        versions: all, as they are after the step; a state that changed since is looked at before it is changed.
        keep: ready versions whose files stay.
        epoch: of the lease.
        keep_records: of a method that makes versions by the second; None for all.

    Raises:
        Fenced: another learner holds the lease.
        StoreUnavailable: the store does not answer.
    """
    upto = store.registry.greatest_number(epoch)
    gone = set()
    for version in to_retire(versions, active=store.registry.state().version, keep=keep):
        try:
            with around("retire"):
                store.registry.mark_retired(version)
        except VersionUnusable as error:  # it was activated in between
            log.info("version.not_retired", extra=fields(version=version, reason=str(error)))
            continue
        gone.add(version)
        log.info("version.retired", extra=fields(version=version))
    versions = [replace(record, state="retired") if record.version in gone else record for record in versions]
    for version in to_remove(versions, _listed(artifacts), upto=upto):
        try:
            artifacts.remove(version)
        except (OSError, StorageError, BucketUnavailable) as error:
            log.warning("version.not_removed", extra=fields(version=version, reason=str(error)))
    artifacts.clean(upto)
    if keep_records is not None:
        store.registry.drop(to_drop(versions, keep=keep_records))


def _listed(artifacts: ArtifactStore) -> list[int]:
    """Return the versions with files; none where that cannot be told now, so that nothing is removed."""
    try:
        return artifacts.list()
    except BucketUnavailable as error:
        log.warning("versions.kept", extra=fields(reason=str(error)))
        return []
