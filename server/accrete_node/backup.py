"""`accrete backup` and `accrete restore`, with the node running or not."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from accrete_kit.file_lock import FileLock
from accrete_kit.plain import plain
from accrete_model.artifact_store import ArtifactStore
from accrete_model.artifacts import open_artifacts
from accrete_model.errors import ModelError
from accrete_node import presets
from accrete_node.exit_status import CANNOT_START
from accrete_node.libraries import check_bucket
from accrete_node.processes import make_data_dir
from accrete_node.settings import Settings, SettingsError
from accrete_storage.backup import Backup, read
from accrete_storage.config import StoreConfig
from accrete_storage.embedded.server import EmbeddedStore, claim
from accrete_storage.errors import BackupUnusable, DataDirInUse, StorageError, StoreUnavailable
from accrete_storage.store import Store

_TIMEOUT_S = 600.0
"""The store is read in one go at about a second per gigabyte, and its usual timeout is for small things."""


def back_up(settings: Settings, folder: Path) -> int:
    """Write a backup, say what is in it, and return the exit status."""
    return _run(folder, "backed up", lambda: _back_up(settings, folder))


def restore(settings: Settings, folder: Path) -> int:
    """Put a backup into a new data directory (and, by `store.url`, an empty store), and return the exit status."""
    return _run(folder, "restored", lambda: _restore(settings, folder))


def _run(folder: Path, what: str, work: Callable[[], Backup]) -> int:
    try:
        found = work()
    except (StorageError, ModelError, SettingsError, OSError, ValueError) as error:
        print(f"accrete: {plain(error)}", file=sys.stderr)
        return CANNOT_START
    for number, reason in found.damaged.items():
        print(
            f"accrete: without version {number}, which is damaged: {reason}. Bring its files back, or give it up with "
            f"`accrete discard {number}`",
            file=sys.stderr,
        )
    print(f"{what} {found.keys} keys and {len(found.versions)} versions: {folder}")
    return 0


def _back_up(settings: Settings, folder: Path) -> Backup:
    if not settings.store.url and not (settings.data_dir / "store").is_dir():
        raise SettingsError([f"data_dir = {str(settings.data_dir)!r}: there is nothing to back up"])
    check_bucket(settings)
    with _store(settings) as store:
        taken = store.back_up(folder, open_artifacts(settings.artifacts, settings.data_dir))
    presets.keep(folder, presets.begun_with(settings.data_dir) or settings.preset)
    return taken


def _restore(settings: Settings, folder: Path) -> Backup:
    """Restore into a data directory without a store and versions, where settings and the like may be."""
    check_bucket(settings)
    artifacts = open_artifacts(settings.artifacts, settings.data_dir)
    artifacts.check(writes=True)
    _check_unused(settings, artifacts)
    found = read(folder)  # before a store is made: what is refused leaves the data directory free for the next attempt
    preset = presets.begun_with(folder) or "cifar"  # which releases before presets had
    make_data_dir(settings)
    with claim(settings.data_dir) as lock:
        _check_unused(settings, artifacts)  # reading takes long
        with _store(settings, lock) as store:
            store.restore(found, artifacts)
    presets.keep(settings.data_dir, preset)
    return found


def _check_unused(settings: Settings, artifacts: ArtifactStore) -> None:
    url = settings.artifacts.url
    if url and artifacts.list():
        raise BackupUnusable(f"artifacts.url = {url!r}: versions are there; a backup is restored below a new prefix")
    if (settings.data_dir / "store").exists() or artifacts.list():
        raise BackupUnusable(f"{settings.data_dir} is in use: a backup is restored into a new data directory")


@contextmanager
def _store(settings: Settings, lock: FileLock | None = None) -> Iterator[Store]:
    """Connect to the store, and start an embedded one that does not run for as long."""
    config = StoreConfig(
        url=settings.store.url, prefix=settings.store.prefix, ack=settings.store.ack, timeout_s=_TIMEOUT_S
    )
    server: EmbeddedStore | None = None
    try:
        store = Store.connect(config, settings.holdout, data_dir=settings.data_dir)
    except StoreUnavailable as error:
        if config.url:
            raise
        server = EmbeddedStore(settings.data_dir, config, lock)
        try:
            server.start()
        except DataDirInUse:  # one runs, and will say what it does
            raise error from None
        store = Store.connect(config, settings.holdout, data_dir=settings.data_dir)
    try:
        yield store
    finally:
        store.close()
        if server is not None:
            server.stop()
