"""The folder of versions, whose files are published whole or not at all and checked before use."""

import errno
import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

from accrete_kit.atomic_file import sync
from accrete_kit.failpoints import around
from accrete_model.errors import CorruptArtifact
from accrete_model.files import BACKBONES_FOLDER, MANIFEST_FILE, SCHEMA

_FOLDER = re.compile(r"v(\d{6,})")
_LEFT = re.compile(r"\.(?:incoming|removed)-v(\d{6,})")


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
        """
        self._root.mkdir(parents=True, exist_ok=True)
        files = {file.name: _describe(file) for file in sorted(candidate.iterdir()) if file.name != MANIFEST_FILE}
        manifest = json.dumps({"schema": SCHEMA, "version": version, "files": files}, indent=1).encode()
        with around("artifact"):
            (candidate / MANIFEST_FILE).write_bytes(manifest)
        for name in (*files, MANIFEST_FILE):
            with around("fsync"):
                sync(candidate / name)
        sync(candidate)
        self.remove(version)
        with around("rename"):
            self._place(candidate, self.path(version))
        with around("fsync_folder"):
            sync(self._root)
        return hashlib.sha256(manifest).hexdigest()

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
        """
        folder = self.path(version)
        manifest = _read(folder / MANIFEST_FILE)
        if digest and hashlib.sha256(manifest).hexdigest() != digest:
            raise CorruptArtifact(f"{_shown(folder / MANIFEST_FILE)} is not the one that was published")
        for name, expected in _parse(manifest, folder, version).items():
            content = _read(folder / name)
            if len(content) != expected["bytes"]:
                raise CorruptArtifact(f"{_shown(folder / name)} has {len(content)} bytes, not {expected['bytes']}")
            if hashlib.sha256(content).hexdigest() != expected["sha256"]:
                raise CorruptArtifact(f"{_shown(folder / name)} does not match its checksum")
        return folder

    def remove(self, version: int) -> None:
        """Remove a version's folder if it is there, after a rename, so that nobody finds half of it."""
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


def _describe(file: Path) -> dict[str, Any]:
    content = file.read_bytes()
    return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def _parse(manifest: bytes, folder: Path, version: int) -> dict[str, dict[str, Any]]:
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


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise CorruptArtifact(f"{_shown(file)} cannot be read: {error.strerror}") from error


def _shown(file: Path) -> str:
    """Return a file's name for messages, which reach callers and so name no path of this machine."""
    return f"{file.parent.name}/{file.name}"
