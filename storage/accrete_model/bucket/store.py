"""Versions whose home is a bucket, and which are read from a bounded cache in the data directory.

Keys below the prefix:

    accrete.json                    whose versions these are
    versions/v000123-DIGEST16/FILE  a version's files, by the beginning of its manifest's digest; manifest.json last
    backbones/DIGEST/FILE           a frozen backbone, once for all versions; backbone.json last

A key never gets another content, so it makes no difference whether a bucket overwrites; what is read is compared with
the digest that the version's record has.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
import time
import uuid
from collections.abc import Collection, Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from accrete_kit.failpoints import around
from accrete_model.artifact_store import ArtifactStore, CacheState, parse_manifest
from accrete_model.bucket.cache import FETCHED_FILE, Cache
from accrete_model.bucket.objects import Found, Objects
from accrete_model.card import ModelCard
from accrete_model.config import ArtifactsConfig
from accrete_model.errors import BucketRefused, BucketUnavailable, CorruptArtifact, LoadError
from accrete_model.files import GRAPH_FILE, MANIFEST_FILE, MODEL_FILE
from accrete_model.frozen import BackboneStore, FrozenBackbone
from accrete_model.frozen.backbone import CARD_FILE, digest_of
from accrete_model.reader import read_card

_OWNER = "accrete.json"
_PROBE = "probe-"
"""Of objects that are written and removed at a start."""
_VERSIONS, _BACKBONES = "versions", "backbones"
_KEY = re.compile(rf"{_VERSIONS}/v(\d{{6,}})-([0-9a-f]{{16}})/(.+)")
_BACKBONE_KEY = re.compile(rf"{_BACKBONES}/([0-9a-f]{{64}})/.+")
_LOOK_S = 600.0
"""Seconds between two looks for backbones to remove, and after which one that is referred to is written anew, so that
it counts as young."""

_log = logging.getLogger(__name__)


class BucketArtifactStore(ArtifactStore):
    """Versions in a bucket, each read from a folder of the same form as in a folder of versions."""

    def __init__(self, config: ArtifactsConfig, root: Path) -> None:
        """Use the bucket that `config` names, and the folder `root` as its cache, without reaching for either."""
        super().__init__(root)
        self._objects = Objects(config.url)
        self._limit = config.cache_bytes
        self._cache = Cache(root, self.backbones, config.cache_bytes)
        self._owner = ""
        """Identity of the store that this process publishes for; "" for one that only reads."""
        self._frozen: dict[str, str] = {}
        """The backbone that each version in the bucket refers to, by the version's folder there."""
        self._whole_backbones: set[str] = set()
        """Those that were read here, and are what they should be."""
        self._kept_s: dict[str, float] = {}
        """When each backbone in the bucket was last made sure of (time.monotonic())."""
        self._looked_s = -_LOOK_S
        self._fetched = (0, 0)
        """Versions that this process brought here, and their bytes."""

    def cache_state(self) -> CacheState:
        """Return what this process fetched and what is cached here."""
        versions, size = self._fetched
        return CacheState(fetched_versions=versions, fetched_bytes=size, bytes=self._cache.size(), limit=self._limit)

    def list(self) -> list[int]:
        """Return the versions of which something is in the bucket or here, ascending."""
        keys = (_KEY.fullmatch(found.key) for found in self._objects.list(_VERSIONS))
        return sorted({*super().list(), *(int(key[1]) for key in keys if key)})

    def publish(self, candidate: Path, version: int) -> str:
        """Put a candidate into the bucket, its manifest last, and then its folder into the cache.

        Args:
            candidate: folder of its files; it is gone afterwards.
            version: number that the learner has reserved and no record names.

        Returns:
            SHA-256 of the manifest, in hexadecimal.

        Raises:
            OSError: when a file cannot be written here.
            BucketUnavailable: the bucket does not take it, or it is too large; `candidate` is as it was.
        """
        manifest = self._seal(candidate, version)
        digest = hashlib.sha256(manifest).hexdigest()
        self._check_fits(version, sum(file.stat().st_size for file in candidate.iterdir()))
        self._upload(candidate, version, digest)
        self._settle(candidate, version)
        self._cache.hold(self.path(version))
        self._cache.make_room(0)
        return digest

    def verify(self, version: int, digest: str | None = None) -> Path:
        """Read every byte of a version's files here, after bringing them here if they are missing or damaged.

        Args:
            version: number of it.
            digest: of its manifest, as `publish` returned it. Without it nothing is fetched.

        Raises:
            CorruptArtifact: naming the file or object and what is wrong with it.
            BucketUnavailable: it is not here, and the bucket cannot be used now; or it is larger than the cache.
        """
        folder = self.path(version)
        held = self._cache.hold(folder)
        try:
            super().verify(version, digest)
        except CorruptArtifact as error:
            if not digest:
                raise
            if held:
                _log.warning("cache.damaged", extra={"version": version, "reason": str(error)})
            self._fetch(version, digest)
            self._cache.hold(folder)
        self._bring_backbone(folder)
        return folder

    def find(self, version: int, digest: str) -> Path:
        """Return a version's folder, brought here if it is missing."""
        if self._cache.hold(self.path(version)):
            return self.path(version)
        return self.verify(version, digest)

    def remove(self, version: int) -> None:
        """Remove a version from the bucket and from here, if it is there. Manifests go first, so none is half there."""
        number = f"{_VERSIONS}/v{version:06d}"
        keys = [found.key for found in self._objects.list(_VERSIONS) if found.key.startswith(f"{number}-")]
        if keys:
            self._check_owner()
            self._objects.delete(sorted(keys, key=lambda key: not key.endswith(f"/{MANIFEST_FILE}")))
        super().remove(version)

    def referred(self) -> frozenset[str]:
        """Return the digests of the frozen backbones that versions in the bucket or here refer to."""
        models = {key.rpartition("/")[0]: key for key in (found.key for found in self._objects.list(_VERSIONS))}
        self._frozen = {folder: frozen for folder, frozen in self._frozen.items() if folder in models}
        for folder in models.keys() - self._frozen.keys():
            content = self._objects.get(f"{folder}/{MODEL_FILE}")
            if content is not None:  # else one that a killed learner left, or whose removal was
                self._frozen[folder] = ModelCard.from_json(content).frozen
        here = (read_card(self.path(version)).frozen for version in super().list())
        return frozenset((*self._frozen.values(), *here))

    def list_backbones(self) -> set[str]:
        """Return the digests of the backbones in the bucket and here; none until it is time to look again."""
        if time.monotonic() - self._looked_s < _LOOK_S:
            return set()
        self._looked_s = time.monotonic()
        keys = (_BACKBONE_KEY.fullmatch(found.key) for found in self._objects.list(_BACKBONES))
        return {*super().list_backbones(), *(key[1] for key in keys if key)}

    def retain_backbones(self, needed: Collection[str], *, younger_s: float) -> tuple[str, ...]:
        """Remove backbones from the bucket and from here.

        How old one is goes by what was put into the bucket last, so that no clock of ours matters.
        """
        self._check_owner()
        found = self._objects.list("")
        now = max((one.changed for one in found), default=None)
        probes = [one for one in found if one.key.startswith(_PROBE)]
        if old := [one.key for one in probes if now and now - one.changed > timedelta(seconds=younger_s)]:
            self._objects.delete(old)  # of a learner that was killed at its start
        by_digest: dict[str, list[Found]] = {}
        for one in found:
            if (key := _BACKBONE_KEY.fullmatch(one.key)) and key[1] not in needed:
                by_digest.setdefault(key[1], []).append(one)
        gone = set()
        for digest, objects in by_digest.items():
            if now is not None and now - max(one.changed for one in objects) > timedelta(seconds=younger_s):
                keys = [one.key for one in objects]
                self._objects.delete(sorted(keys, key=lambda key: not key.endswith(f"/{CARD_FILE}")))
                self._kept_s.pop(digest, None)
                gone.add(digest)
        gone.update(super().retain_backbones(needed, younger_s=younger_s))
        self._whole_backbones -= gone
        return tuple(sorted(gone))

    def check(self, *, writes: bool) -> None:
        """Try at a start what will be needed: to list and, to publish, to write, read and delete."""
        try:
            self._objects.list(_BACKBONES)
        except BucketRefused as error:
            if writes or not super().list():
                raise
            raise BucketUnavailable(str(error)) from None  # what is here can be served
        if writes:
            key, content = f"{_PROBE}{uuid.uuid4().hex}", uuid.uuid4().bytes
            self._objects.put(key, content)
            if self._objects.get(key) != content:
                raise BucketRefused(f"{self._objects.setting}: what is written is not what is read afterwards")
            self._objects.delete([key])

    def take_over(self, owner: str, ready: Mapping[int, str]) -> None:
        """Write down whose versions these are, unless it is known, and put ready ones there that are only here."""
        self._owner = owner
        if self._objects.get(_OWNER) is None:
            self._objects.put(_OWNER, json.dumps({"store": owner}).encode())
        self._check_owner()
        there = {found.key for found in self._objects.list(_VERSIONS)}
        for version, digest in ready.items():
            if f"{_folder(version, digest)}/{MANIFEST_FILE}" in there:
                continue
            try:
                folder = super().verify(version, digest)
            except CorruptArtifact as error:
                _log.error("version.not_in_bucket", extra={"version": version, "reason": str(error)})
                continue
            self._upload(folder, version, digest)
            _log.info("version.put_into_bucket", extra={"version": version})

    def use(self, version: int) -> None:
        """Say which version is live in this process, so that its files and its backbone's stay here."""
        folder = self.path(version)
        with suppress(LoadError):
            frozen = _frozen(folder)
            self._cache.use(folder, *([BackboneStore(self.backbones).path(frozen)] if frozen else []))

    def fetch_backbone(self, digest: str) -> None:
        """Bring a frozen backbone here, if it is in the bucket and not here."""
        if not digest or digest in self._whole_backbones and BackboneStore(self.backbones).path(digest).is_dir():
            return
        store = BackboneStore(self.backbones)
        try:
            store.get(digest)
        except LoadError:
            card = self._objects.get(f"{_BACKBONES}/{digest}/{CARD_FILE}")
            graph = self._objects.get_large(f"{_BACKBONES}/{digest}/{GRAPH_FILE}")
            if card is None or graph is None or digest_of(card, graph) != digest:
                return  # whoever wants it will say what is missing
            self._cache.make_room(len(graph))
            store.put(FrozenBackbone.from_card(card, graph))
            (store.path(digest) / FETCHED_FILE).touch()
        self._whole_backbones.add(digest)

    def _upload(self, files: Path, version: int, digest: str) -> None:
        """Put a version's files into the bucket, after the backbone that it refers to."""
        if frozen := _frozen(files):
            self._keep_backbone(frozen)
        names = sorted(file.name for file in files.iterdir() if file.name != MANIFEST_FILE)
        for name in names:
            self._objects.put(f"{_folder(version, digest)}/{name}", files / name)
        with around("upload"):
            self._objects.put(f"{_folder(version, digest)}/{MANIFEST_FILE}", files / MANIFEST_FILE)

    def _keep_backbone(self, digest: str) -> None:
        """Have a backbone in the bucket, as young there as if it had been put there just now.

        Raises:
            LoadError: it is neither there nor here.
        """
        if time.monotonic() - self._kept_s.get(digest, -_LOOK_S) < _LOOK_S:
            return
        folder = f"{_BACKBONES}/{digest}"
        if not {f"{folder}/{name}" for name in (CARD_FILE, GRAPH_FILE)} <= {
            found.key for found in self._objects.list(folder)
        }:
            BackboneStore(self.backbones).get(digest)
            self._objects.put(f"{folder}/{GRAPH_FILE}", BackboneStore(self.backbones).path(digest) / GRAPH_FILE)
        card = BackboneStore(self.backbones).path(digest) / CARD_FILE
        if card.exists():
            self._objects.put(f"{folder}/{CARD_FILE}", card)
        self._kept_s[digest] = time.monotonic()

    def _fetch(self, version: int, digest: str) -> None:
        """Bring a version here, in place of what is here of it."""
        with self._cache.one_at_a_time():
            if not self._is_whole(version, digest):  # else somebody brought it meanwhile
                self._fetch_now(version, digest)

    def _fetch_now(self, version: int, digest: str) -> None:
        key, name = _folder(version, digest), self.path(version).name
        manifest = self._objects.get(f"{key}/{MANIFEST_FILE}")
        if manifest is None or hashlib.sha256(manifest).hexdigest() != digest:
            if not self._owner_there():  # whoever answers anything with a page of their own tells no damage
                raise BucketUnavailable(
                    f"{self._objects.setting}: {_OWNER} is not there, which the learner puts there: it is empty, "
                    "another one, or none"
                )
            wrong = "missing" if manifest is None else "not the one that was published"
            raise CorruptArtifact(f"{key}/{MANIFEST_FILE} in the bucket is {wrong}")
        files = parse_manifest(manifest, Path(key), version)
        size = len(manifest) + sum(described["bytes"] for described in files.values())
        self._check_fits(version, size)
        if not self._cache.make_room(size):
            _log.warning("cache.full", extra={"version": version, "bytes": size, "cache_bytes": self._limit})
        incoming = self._cache.incoming(name)
        try:
            if not self._cache.hold(incoming):
                raise OSError(f"{incoming.name}: it went away")
            for file, described in files.items():
                self._objects.download(
                    f"{key}/{file}", incoming / file, sha256=described["sha256"], length=described["bytes"]
                )
            (incoming / MANIFEST_FILE).write_bytes(manifest)
            self._cache.place(incoming, name, lambda: self._is_whole(version, digest))
            self._fetched = (self._fetched[0] + 1, self._fetched[1] + size)
        finally:
            self._cache.let_go(incoming)
            shutil.rmtree(incoming, ignore_errors=True)

    def _bring_backbone(self, folder: Path) -> None:
        try:
            if frozen := _frozen(folder):
                self.fetch_backbone(frozen)
                self._cache.hold(BackboneStore(self.backbones).path(frozen))
        except LoadError as error:
            raise CorruptArtifact(f"{folder.name} cannot be loaded: {error}") from error

    def _is_whole(self, version: int, digest: str) -> bool:
        try:
            super().verify(version, digest)
        except CorruptArtifact:
            return False
        return True

    def _check_fits(self, version: int, size: int) -> None:
        if size > self._limit:
            raise BucketRefused(
                f"artifacts.cache_bytes = {self._limit}: version {version} has {size} bytes; set it to several times "
                "that"
            )

    def _check_owner(self) -> None:
        """Look whether the bucket has the versions of the store that this process works for, before anything goes.

        Raises:
            BucketRefused: it has another store's, or nobody's.
        """
        owner = self._owner_there()
        if owner != self._owner or not owner:
            raise BucketRefused(
                f"{self._objects.setting}: the versions there are another store's ({_OWNER} says so); each store needs "
                "a prefix of its own"
            )

    def _owner_there(self) -> str:
        """Return whose versions the bucket says that it has; "" where it says nothing that can be read."""
        try:
            return str(json.loads(self._objects.get(_OWNER) or b"{}").get("store", ""))
        except (ValueError, AttributeError):
            return ""


def _folder(version: int, digest: str) -> str:
    return f"{_VERSIONS}/v{version:06d}-{digest[:16]}"


def _frozen(folder: Path) -> str:
    """Return the digest of the backbone that a version refers to; "" where it has its own."""
    return read_card(folder).frozen if (folder / MODEL_FILE).exists() else ""
