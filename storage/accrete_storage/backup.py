"""Backups: the store at one moment and the versions that it names, whole or not at all; and back again.

A backup is a folder: `store.bin` (a msgpack stream of [key without its prefix, milliseconds to live, DUMP]), `versions`
as published, `backbones` that they refer to, and `backup.json`, which is written last and has the digest of all else. A
folder without it is none.
"""

import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack

from accrete_kit.atomic_file import write_json
from accrete_model.artifact_store import ArtifactStore
from accrete_model.errors import CorruptArtifact, LoadError
from accrete_model.files import MODEL_FILE
from accrete_model.reader import read_card
from accrete_storage.errors import BackupUnusable
from accrete_storage.redis.database import Database, reachable
from accrete_storage.redis.keys import SCHEMA, Keys
from accrete_storage.versions.record import VersionRecord

MANIFEST = "backup.json"
_STORE = "store.bin"
_VERSIONS = "versions"
_FORMAT = 1
_PASSING = ("lease", "late", "members", "cluster", "staged:")
"""Beginnings of keys that only a learner or a server at work needs, and no backup has."""
_ATTEMPTS = 5
_BATCH = 500
"""Keys restored at once."""

Entry = tuple[str, int, bytes]
"""Key without its prefix, milliseconds to live (-1 for ever), DUMP."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Backup:
    """What a backup has."""

    folder: Path
    """Its folder, which `backup.json` does not name, so that it can be moved."""
    taken_ms: int
    """Milliseconds since 1970."""
    schema: str
    """Of what is stored."""
    digest: str
    """SHA-256 of `store.bin`, hex."""
    keys: int
    versions: dict[int, str]
    """Digests of the manifests of the versions that are ready."""
    damaged: dict[int, str] = field(default_factory=dict)
    """What is wrong with ready versions whose files the backup lacks for that; restored, they are as damaged."""


def take(database: Database, keys: Keys, artifacts: ArtifactStore, folder: Path) -> Backup:
    """Write a backup while everything runs.

    The store serves nothing else while it is read (about a second per gigabyte), and needs as much memory again
    meanwhile. When a step retires a version while it is copied, the backup begins anew. One that is damaged is left out
    and named: examples and the other versions are worth the more then.

    Args:
        database: of the store.
        keys: of the store.
        artifacts: the versions.
        folder: is made where it is missing, and must be empty.

    Raises:
        BackupUnusable: the folder is not empty, or steps retired versions faster than they could be copied.
        StoreUnavailable: the store does not answer.
        BucketUnavailable: the bucket that has the versions cannot be used now.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise BackupUnusable(f"{folder} is not empty: a backup goes into a folder of its own")
    damaged: dict[int, str] = {}
    for _ in range(_ATTEMPTS):
        ready, entries = _snapshot(database, keys)
        copied, found = _copy_versions(artifacts, ArtifactStore(folder / _VERSIONS), ready)
        # What a step retired meanwhile is not ready at the next look.
        if found == {number: reason for number, reason in damaged.items() if number in ready}:
            return _write(folder, entries, copied, found)
        damaged = found
    raise BackupUnusable(f"versions were retired while they were copied, {_ATTEMPTS} times: pause learning meanwhile")


def read(folder: Path) -> Backup:
    """Read all of a backup, and return what it has.

    Raises:
        BackupUnusable: it is no backup, or not whole, or of another release.
        CorruptArtifact: a version in it is damaged.
    """
    try:
        stored = json.loads((folder / MANIFEST).read_text("utf-8"))
        if stored.pop("format") != _FORMAT:
            raise BackupUnusable(f"{folder} was written by another release")
        for name in ("versions", "damaged"):
            stored[name] = {int(number): what for number, what in stored.get(name, {}).items()}
        backup = Backup(folder=folder, **stored)
        with (folder / _STORE).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BackupUnusable(f"{folder} is no backup, or one that was not finished: {error}") from error
    if backup.schema != SCHEMA:
        raise BackupUnusable(f"{folder} has schema {backup.schema}; this release reads schema {SCHEMA}")
    if digest != backup.digest:
        raise BackupUnusable(f"{folder / _STORE} is not what was written")
    artifacts = ArtifactStore(folder / _VERSIONS)
    for number, expected in backup.versions.items():
        _check_backbone(artifacts.verify(number, expected), artifacts.backbones)
    return backup


def restore(backup: Backup, database: Database, keys: Keys, artifacts: ArtifactStore) -> None:
    """Put a backup that `read` has checked into an empty store and an empty folder of versions.

    What is live comes last. An interrupted restore leaves data that nobody serves and that the next attempt refuses, so
    the store must be emptied before.

    Raises:
        BackupUnusable: something is there already.
        CorruptArtifact: the backup changed since it was read.
    """
    with reachable():
        there = next(iter(database.client.scan_iter(match=_pattern(keys), count=1_000)), None)
    if there is not None or artifacts.list():
        raise BackupUnusable("the store, or where versions are kept, is not empty: a backup is restored into new ones")
    for number, digest in backup.versions.items():
        _copy_version(ArtifactStore(backup.folder / _VERSIONS), artifacts, number, digest)
    state = keys.state.removeprefix(keys.beginning)
    last = [entry for entry in _entries(backup.folder) if entry[0] == state]
    for batch in _batches(entry for entry in _entries(backup.folder) if entry[0] != state):
        _put(database, keys, batch)
    _put(database, keys, last, restored=uuid.uuid4().hex)


def _snapshot(database: Database, keys: Keys) -> tuple[dict[int, str], list[Entry]]:
    records, answer = database.call("snapshot", [keys.versions], [_pattern(keys)])
    parsed = (VersionRecord.from_json(record) for record in records)
    triples = zip(answer[::3], answer[1::3], answer[2::3], strict=True)
    named = ((name.decode().removeprefix(keys.beginning), int(left), value) for name, left, value in triples)
    kept = [entry for entry in named if not entry[0].startswith(_PASSING)]
    return {record.version: record.digest for record in parsed if record.state == "ready"}, kept


def _pattern(keys: Keys) -> str:
    return "".join(f"\\{letter}" if letter in "*?[]^\\" else letter for letter in keys.beginning) + "*"


def _copy_versions(
    source: ArtifactStore, to: ArtifactStore, versions: dict[int, str]
) -> tuple[dict[int, str], dict[int, str]]:
    """Return the digests of the versions that were copied, and what is wrong with the others, by number."""
    copied, damaged = {}, {}
    for number, digest in versions.items():
        try:
            _copy_version(source, to, number, digest)
        except CorruptArtifact as error:
            to.remove(number)
            damaged[number] = str(error)
        else:
            copied[number] = digest
    return copied, damaged


def _copy_version(source: ArtifactStore, to: ArtifactStore, number: int, digest: str) -> None:
    files = source.verify(number, digest)
    _copy_backbone(files, source.backbones, to.backbones)  # first, for a bucket takes no version without its backbone
    if number not in to.list():
        working = to.path(number).with_name(f".copy-{number}")
        shutil.rmtree(working, ignore_errors=True)
        try:
            shutil.copytree(files, working)
        except OSError as error:  # removed in the middle
            raise CorruptArtifact(f"version {number} went away: {error}") from error
        to.publish(working, number)
    to.verify(number, digest)


def _copy_backbone(version: Path, source: Path, to: Path) -> None:
    from accrete_model.frozen import BackboneStore  # brings ONNX Runtime, for which the store has no other use

    if digest := _frozen(version):
        with _telling(version):
            BackboneStore(to).put(BackboneStore(source).get(digest))


def _check_backbone(version: Path, backbones: Path) -> None:
    from accrete_model.frozen import BackboneStore

    if digest := _frozen(version):
        with _telling(version):
            BackboneStore(backbones).get(digest)


def _frozen(version: Path) -> str:
    """Return the digest of the backbone that a version refers to; "" where it has its own."""
    return read_card(version).frozen if (version / MODEL_FILE).exists() else ""


@contextmanager
def _telling(version: Path) -> Iterator[None]:
    try:
        yield
    except LoadError as error:
        raise CorruptArtifact(f"{version.name} cannot be loaded: {error}") from error


def _write(folder: Path, entries: list[Entry], versions: dict[int, str], damaged: dict[int, str]) -> Backup:
    digest = hashlib.sha256()
    with (folder / _STORE).open("wb") as file:
        for entry in entries:
            packed: bytes = msgpack.packb(entry)
            digest.update(packed)
            file.write(packed)
        file.flush()
        os.fsync(file.fileno())
    backup = Backup(
        folder=folder,
        taken_ms=time.time_ns() // 1_000_000,
        schema=SCHEMA,
        digest=digest.hexdigest(),
        keys=len(entries),
        versions=versions,
        damaged=damaged,
    )
    left_out = {"folder"} if damaged else {"folder", "damaged"}  # earlier releases read one without damaged versions
    body: dict[str, Any] = {name: getattr(backup, name) for name in Backup.__dataclass_fields__ if name not in left_out}
    write_json(folder / MANIFEST, {"format": _FORMAT} | body)
    return backup


def _entries(folder: Path) -> Iterator[Entry]:
    with (folder / _STORE).open("rb") as file:
        yield from map(tuple, msgpack.Unpacker(file, max_buffer_size=0))


def _batches(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    batch: list[Entry] = []
    for entry in entries:
        batch.append(entry)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    yield batch


def _put(database: Database, keys: Keys, entries: list[Entry], *, restored: str = "") -> None:
    if not entries:
        return
    with database.transaction() as pipeline:
        for name, left, value in entries:
            pipeline.restore(keys.beginning + name, max(0, left), value)
        if restored:  # else two stores would be taken for one, and publish and remove below one prefix of a bucket
            pipeline.hset(keys.state, "restored", restored)
        pipeline.execute()
