"""The folder of versions, whose files are published whole or not at all and checked before use.

`accrete_model.bucket` has the other home that versions may have; `ArtifactStore` says what both can do.
"""

import errno
import hashlib
import json
import re
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accrete_kit.atomic_file import sync
from accrete_kit.failpoints import around
from accrete_model.errors import CorruptArtifact, LoadError
from accrete_model.files import BACKBONES_FOLDER, MANIFEST_FILE, SCHEMA
from accrete_model.reader import read_card

_FOLDER = re.compile(r"v(\d{6,})")
_LEFT = re.compile(r"\.(?:incoming|removed)-v(\d{6,})(?:-\w+)?")


@dataclass(frozen=True, kw_only=True)
class CacheState:
    """Of the folder in which versions are read whose home is elsewhere."""

    fetched_versions: int
    fetched_bytes: int
    bytes: int
    """Of versions and backbones that are here."""
    limit: int
    """Bytes that there may be, beside what is in use."""


class ArtifactStore:
    """The folder of versions, with one immutable folder for each."""

    def __init__(self, root: Path) -> None:
        """Use the folder `root`, which is made when the first version is published."""
        self._root = root

    def path(self, version: int) -> Path:
        """Return a version's folder, whether it is there or not."""
        return self._root / f"v{version:06d}"

    @property
    def backbones(self) -> Path:
        """The folder of the frozen backbones that versions refer to."""
        return self._root.with_name(BACKBONES_FOLDER)

    def list(self) -> list[int]:
        """Return the versions with a folder, ascending."""
        if not self._root.is_dir():
            return []
        matches = (_FOLDER.fullmatch(entry.name) for entry in self._root.iterdir())
        return sorted(int(match[1]) for match in matches if match)

    def publish(self, candidate: Path, version: int) -> str:
        """Move a candidate's folder into place, every file on disk before the name is.

        Args:
            candidate: folder of its files, on this or another file system; it is gone afterwards.
            version: number that the learner has reserved and no record names. A folder of that number is what its own
                last attempt left, and is replaced.

        Returns:
            SHA-256 of the manifest, in hexadecimal.

        Raises:
            OSError: when a file cannot be written or brought to disk.
            BucketUnavailable: the bucket does not take it; `candidate` is as it was, for another try.
        """
        manifest = self._seal(candidate, version)
        self._settle(candidate, version)
        return hashlib.sha256(manifest).hexdigest()

    def _seal(self, candidate: Path, version: int) -> bytes:
        """Write the manifest of a candidate and bring all of its files to disk. Answers the manifest."""
        files = {file.name: _describe(file) for file in sorted(candidate.iterdir()) if file.name != MANIFEST_FILE}
        manifest = json.dumps({"schema": SCHEMA, "version": version, "files": files}, indent=1).encode()
        with around("artifact"):
            (candidate / MANIFEST_FILE).write_bytes(manifest)
        for name in (*files, MANIFEST_FILE):
            with around("fsync"):
                sync(candidate / name)
        sync(candidate)
        return manifest

    def _settle(self, candidate: Path, version: int) -> None:
        """Give a candidate's folder its version's name, in place of what has it."""
        self._root.mkdir(parents=True, exist_ok=True)
        self._remove_folder(version)
        with around("rename"):
            self._place(candidate, self.path(version))
        with around("fsync_folder"):
            sync(self._root)

    def _place(self, candidate: Path, to: Path) -> None:
        """Rename a folder; from another file system, first copy it to disk beside its place."""
        try:
            candidate.rename(to)
            return
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
        incoming = to.with_name(f".incoming-{to.name}")
        shutil.rmtree(incoming, ignore_errors=True)
        shutil.copytree(candidate, incoming)
        for file in incoming.iterdir():
            sync(file)
        sync(incoming)
        incoming.rename(to)
        shutil.rmtree(candidate)

    def verify(self, version: int, digest: str | None = None) -> Path:
        """Read every byte of a version's files, and return their folder.

        Args:
            version: number of it.
            digest: of its manifest, as `publish` returned it; None or "" trusts the manifest.

        Raises:
            CorruptArtifact: naming the file and what is wrong with it.
            BucketUnavailable: it is not here, and the bucket that has it cannot be used now.
        """
        folder = self.path(version)
        manifest = _read(folder / MANIFEST_FILE)
        if digest and hashlib.sha256(manifest).hexdigest() != digest:
            raise CorruptArtifact(f"{_shown(folder / MANIFEST_FILE)} is not the one that was published")
        for name, expected in parse_manifest(manifest, folder, version).items():
            found = _described(folder / name)
            if found["bytes"] != expected["bytes"]:
                raise CorruptArtifact(f"{_shown(folder / name)} has {found['bytes']} bytes, not {expected['bytes']}")
            if found["sha256"] != expected["sha256"]:
                raise CorruptArtifact(f"{_shown(folder / name)} does not match its checksum")
        return folder

    def find(self, version: int, digest: str) -> Path:
        """Return a version's folder without reading its files. It raises what `verify` does where it is not here."""
        return self.path(version)

    def remove(self, version: int) -> None:
        """Remove a version if it is there, so that nobody finds half of it.

        Raises:
            OSError: its folder cannot be removed.
            BucketUnavailable: the bucket cannot be used now.
        """
        self._remove_folder(version)

    def _remove_folder(self, version: int) -> None:
        folder = self.path(version)
        if not folder.exists():
            return
        gone = folder.with_name(f".removed-{folder.name}")
        shutil.rmtree(gone, ignore_errors=True)
        with around("remove"):
            folder.rename(gone)
        shutil.rmtree(gone)

    def clean(self, upto: int) -> None:
        """Remove the temporary folders that killed learners left of versions up to the number `upto`."""
        for left in self._root.glob(".*-v*"):
            match = _LEFT.fullmatch(left.name)
            if match and int(match[1]) <= upto:
                shutil.rmtree(left, ignore_errors=True)

    def referred(self) -> frozenset[str]:
        """Return the digests of the frozen backbones that versions refer to, with "" for one that refers to none.

        Raises:
            LoadError: it cannot be told of one.
            BucketUnavailable: the bucket cannot be used now.
        """
        digests = set()
        for version in self.list():
            try:
                digests.add(read_card(self.path(version)).frozen)
            except LoadError as error:
                raise LoadError(error.stage, f"version {version}: {error.reason}") from error
        return frozenset(digests)

    def list_backbones(self) -> set[str]:
        """Return the digests of the backbones that are there, as far as it is time to look for some to remove."""
        from accrete_model.frozen import BackboneStore  # brings ONNX Runtime, for which versions have no other use

        return set(BackboneStore(self.backbones).list())

    def retain_backbones(self, needed: Collection[str], *, younger_s: float) -> tuple[str, ...]:
        """Remove backbones as `BackboneStore.retain` does, and return the digests that went.

        Raises:
            OSError: one cannot be removed.
            BucketUnavailable: the bucket cannot be used now.
        """
        from accrete_model.frozen import BackboneStore

        return BackboneStore(self.backbones).retain(needed, younger_s=younger_s)

    # The rest is of use where versions are elsewhere than here.

    def check(self, *, writes: bool) -> None:
        """Try at a start what will be needed.

        Args:
            writes: whether versions will be published.

        Raises:
            BucketUnavailable: the bucket cannot be used now; `BucketRefused` where that will not pass by itself.
        """

    def take_over(self, owner: str, ready: Mapping[int, str]) -> None:
        """Begin to publish for a store, and bring what is missing elsewhere.

        Args:
            owner: identity of the store whose versions these are.
            ready: digests of the versions that can be activated.

        Raises:
            BucketUnavailable: the bucket cannot be used now; `BucketRefused` where it has another store's versions.
        """

    def use(self, version: int) -> None:
        """Say which version is live in this process, so that its files stay here."""

    def cache_state(self) -> CacheState | None:
        """Return what this process fetched and what is cached here; None where versions are here anyway."""
        return None

    def fetch_backbone(self, digest: str) -> None:
        """Bring a frozen backbone here if it is elsewhere. Where there is none, nothing happens.

        Raises:
            BucketUnavailable: the bucket cannot be used now.
        """


def _describe(file: Path) -> dict[str, Any]:
    """Return a file's `sha256` and `bytes`, without having all of it in memory."""
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
        return {"sha256": digest, "bytes": opened.tell()}


def parse_manifest(manifest: bytes, folder: Path, version: int) -> dict[str, dict[str, Any]]:
    """Return what a version's manifest says of each of its files: `sha256` and `bytes`.

    Raises:
        CorruptArtifact: it is none, or of another schema or version.
    """
    try:
        parsed = json.loads(manifest)
        if parsed["schema"] != SCHEMA or parsed["version"] != version:
            raise CorruptArtifact(
                f"{_shown(folder / MANIFEST_FILE)} is of schema {parsed['schema']}, version {parsed['version']}; "
                f"schema {SCHEMA}, version {version} is expected"
            )
        files: dict[str, dict[str, Any]] = parsed["files"]
        if any("/" in name or name.startswith(".") for name in files):
            raise CorruptArtifact(f"{_shown(folder / MANIFEST_FILE)} names files outside its folder")
        return files
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptArtifact(f"{_shown(folder / MANIFEST_FILE)} is unreadable: {error}") from error


def _described(file: Path) -> dict[str, Any]:
    try:
        return _describe(file)
    except OSError as error:
        raise CorruptArtifact(f"{_shown(file)} cannot be read: {error.strerror}") from error


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise CorruptArtifact(f"{_shown(file)} cannot be read: {error.strerror}") from error


def _shown(file: Path) -> str:
    """Return a file's name for messages, which reach callers and so name no path of this machine."""
    return f"{file.parent.name}/{file.name}"
