"""Versions in a bucket: published whole, never overwritten, checked on the way in, and cached within bounds."""

from __future__ import annotations

import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from accrete_kit.file_lock import FileLock
from accrete_model.artifact_store import ArtifactStore
from accrete_model.artifacts import open_artifacts
from accrete_model.bucket import cache, objects
from accrete_model.bucket.objects import Objects
from accrete_model.bucket.store import BucketArtifactStore
from accrete_model.config import ArtifactsConfig, EngineConfig
from accrete_model.errors import BucketRefused, BucketUnavailable, CorruptArtifact
from accrete_model.frozen import BackboneStore
from accrete_model.loaded_version import load
from tests.model.artifacts import Recipe, small_backbone, write_artifact, write_frozen_artifact
from tests.support.buckets import KINDS, SECRET, Buckets, BucketServer


@dataclass(frozen=True)
class Site:
    """A bucket, and machines that share nothing else."""

    config: ArtifactsConfig
    folder: Path

    def machine(self, name: str, **changes: int) -> BucketArtifactStore:
        artifacts = open_artifacts(replace(self.config, **changes), self.folder / name)  # type: ignore[arg-type]
        assert isinstance(artifacts, BucketArtifactStore)
        return artifacts

    def learner(self, name: str = "learner") -> BucketArtifactStore:
        artifacts = self.machine(name)
        artifacts.take_over("this store", {})
        return artifacts

    def candidate(self, size: int = 1000, content: bytes = b"w") -> Path:
        folder = self.folder / "candidate"
        write_artifact(folder, Recipe())
        (folder / "weights.safetensors").write_bytes(content * size)
        return folder

    @property
    def objects(self) -> Objects:
        return Objects(self.config.url)

    def keys(self, below: str = "") -> set[str]:
        return {found.key for found in self.objects.list(below)}


def site_of(kind: str, buckets: Buckets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    url, environment = buckets.new(kind)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return Site(ArtifactsConfig(url=url), tmp_path)


@pytest.fixture(params=KINDS)
def site(request: pytest.FixtureRequest, buckets: Buckets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """In each kind of bucket."""
    return site_of(request.param, buckets, tmp_path, monkeypatch)


@pytest.fixture
def one(buckets: Buckets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """In a bucket that overwrites silently."""
    return site_of("rclone", buckets, tmp_path, monkeypatch)


def test_a_version_is_served_on_a_machine_that_has_never_seen_it(site: Site):
    learner = site.learner()
    learner.check(writes=True)
    digest = learner.publish(site.candidate(9_000_000), 3)
    assert learner.list() == [3]
    server = site.machine("server")
    server.check(writes=False)
    folder = server.verify(3, digest)
    assert folder == site.folder / "server" / "versions" / "v000003"
    load(folder, 3, EngineConfig(device="cpu")).close()
    assert not [path for path in folder.parent.iterdir() if path.name.startswith(".")]
    assert {key.split("/")[1] for key in site.keys("versions")} == {f"v000003-{digest[:16]}"}
    learner.remove(3)
    assert learner.list() == []
    assert site.keys("versions") == set()
    assert server.verify(3, digest) == folder, "what is here is served on"


@pytest.mark.parametrize("damage", ["flip", "truncate", "grow", "remove", "manifest", "no manifest"])
def test_what_is_not_what_was_published_comes_nowhere_and_is_named(site: Site, damage: str):
    digest = site.learner().publish(site.candidate(), 1)
    name = "manifest.json" if "manifest" in damage else "weights.safetensors"
    key = f"versions/v000001-{digest[:16]}/{name}"
    content = site.objects.get(key)
    assert content is not None
    if damage in ("remove", "no manifest"):
        site.objects.delete([key])
    else:
        changed = {"flip": b"W" + content[1:], "truncate": content[:-1], "grow": content + b"x"}
        site.objects.put(key, changed.get(damage, content + b" "))
    server = site.machine("server")
    with pytest.raises(CorruptArtifact, match=key):
        server.verify(1, digest)
    assert not server.path(1).exists()
    assert not list((site.folder / "server" / "versions").glob(".*"))
    site.objects.put(key, content)
    server.verify(1, digest)


def test_damage_in_the_cache_is_mended_from_the_bucket(one: Site):
    learner = one.learner()
    digest = learner.publish(one.candidate(), 1)
    for damage in (lambda file: file.write_bytes(b"other"), Path.unlink):
        damage(learner.path(1) / "weights.safetensors")
        learner.verify(1, digest)
        assert (learner.path(1) / "weights.safetensors").read_bytes() == b"w" * 1000


def test_a_learner_that_wakes_late_overwrites_nothing(one: Site):
    """The bucket itself would let it."""
    live = one.learner().publish(one.candidate(content=b"l"), 1)
    late = one.learner("late").publish(one.candidate(content=b"o"), 1)
    server = one.machine("server")
    assert (server.verify(1, live) / "weights.safetensors").read_bytes() == b"l" * 1000
    assert (one.machine("other").verify(1, late) / "weights.safetensors").read_bytes() == b"o" * 1000


def test_half_a_publication_is_no_version_and_goes_with_the_next_removal(one: Site):
    learner = one.learner()
    one.objects.put("versions/v000007-0123456789abcdef/weights.safetensors", b"half")
    assert learner.list() == [7]
    learner.remove(7)
    assert learner.list() == []


def test_an_unreachable_bucket_is_told_by_its_setting_and_what_is_here_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    server = BucketServer("rclone", tmp_path / "rclone")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    site = Site(ArtifactsConfig(url="s3://bucket/some"), tmp_path)
    server.start()
    try:
        learner = site.learner()
        digest = learner.publish(site.candidate(), 1)
        monkeypatch.setattr(objects, "_SMALL_S", 1)
        server.pause()
        with pytest.raises(BucketUnavailable, match=r"artifacts\.url = 's3://bucket/some': cannot be read"):
            site.machine("server").verify(1, digest)
        server.stop()
        assert learner.verify(1, digest) == learner.path(1)
        far = site.machine("server")
        candidate = site.candidate(content=b"2")
        for attempt in (
            lambda: far.check(writes=False),
            lambda: far.verify(1, digest),
            lambda: learner.publish(candidate, 2),
            lambda: learner.remove(1),
            learner.list,
        ):
            with pytest.raises(BucketUnavailable, match=r"artifacts\.url = 's3://bucket/some': cannot be") as caught:
                attempt()
            assert not isinstance(caught.value, BucketRefused)
        server.start()
        far.verify(1, digest)
        far.verify(2, learner.publish(candidate, 2))
    finally:
        server.stop()


def test_wrong_credentials_are_refused_without_a_word_of_them(one: Site, monkeypatch: pytest.MonkeyPatch):
    digest = one.learner().publish(one.candidate(), 1)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "notthesecret")
    for writes in (True, False):
        with pytest.raises(BucketRefused, match=r"artifacts\.url = .*credentials of the environment") as caught:
            one.machine("server").check(writes=writes)
        assert "notthesecret" not in repr(caught.value)
        assert SECRET not in repr(caught.value)
    # They expire, and what is here is served: of a server that is started anew, too.
    with pytest.raises(BucketUnavailable) as passing:
        one.machine("learner").check(writes=False)
    assert not isinstance(passing.value, BucketRefused)
    assert one.machine("learner").verify(1, digest).is_dir()


def test_a_bucket_that_is_not_there_is_refused(one: Site):
    with pytest.raises(BucketRefused, match="there is no such bucket"):
        replace(one, config=ArtifactsConfig(url="s3://nowhere/some")).machine("server").check(writes=False)


def test_a_read_only_bucket_is_told_before_anything_is_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    server = BucketServer("rclone", tmp_path / "rclone", "--read-only")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    server.start()
    try:
        artifacts = Site(ArtifactsConfig(url="s3://bucket"), tmp_path).machine("learner")
        artifacts.check(writes=False)
        with pytest.raises(BucketUnavailable, match=r"artifacts\.url = 's3://bucket': cannot be written"):
            artifacts.check(writes=True)
    finally:
        server.stop()


def test_a_version_larger_than_the_cache_is_refused_by_the_settings_name(one: Site):
    digest = one.learner().publish(one.candidate(2_000_000), 1)
    small = one.machine("small", cache_bytes=1_000_000)
    with pytest.raises(BucketRefused, match=r"artifacts\.cache_bytes = 1000000: version 1 has 2\d{6} bytes"):
        small.verify(1, digest)
    candidate = one.candidate(2_000_000)
    with pytest.raises(BucketRefused, match=r"artifacts\.cache_bytes"):
        small.publish(candidate, 2)
    assert candidate.is_dir()
    assert {key.split("/")[1][:7] for key in one.keys("versions")} == {"v000001"}


@pytest.fixture
def nine(buckets: Buckets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Site, list[str]]:
    """Versions 1 to 9 of somewhat more than 300 kB each."""
    site = site_of("file", buckets, tmp_path, monkeypatch)
    learner = site.learner()
    return site, [learner.publish(site.candidate(300_000, bytes([version])), version) for version in range(1, 10)]


def cached(artifacts: BucketArtifactStore) -> list[int]:
    return ArtifactStore(artifacts.path(1).parent).list()


def test_the_cache_is_bounded_and_what_was_used_longest_ago_goes_first(nine: tuple[Site, list[str]]):
    site, digests = nine
    server = site.machine("server", cache_bytes=2_000_000)
    for version, digest in enumerate(digests, 1):
        server.verify(version, digest)
        os.utime(server.path(version), (version, version))
    assert cached(server) == [4, 5, 6, 7, 8, 9]
    for version in (3, 2, 1):
        server.verify(version, digests[version - 1])
    assert cached(server) == [1, 2, 3, 7, 8, 9]


def test_neither_the_live_version_nor_one_being_loaded_goes_from_the_cache(nine: tuple[Site, list[str]]):
    """Of another process on the same folder, too."""
    site, digests = nine
    first, other = (site.machine("server", cache_bytes=1_000_000) for _ in range(2))
    first.verify(1, digests[0])
    first.use(1)
    for version in range(2, 10):
        other.verify(version, digests[version - 1])
        os.utime(first.path(1), (0, 0))
    assert 1 in cached(first)
    assert 9 in cached(other)
    del other  # as when that process ends
    for version in range(2, 8):
        first.verify(version, digests[version - 1])
        os.utime(first.path(1), (0, 0))
        os.utime(first.path(version), (version, version))
    assert 1 in cached(first)


def test_several_that_fetch_one_version_into_one_folder_all_get_it(nine: tuple[Site, list[str]]):
    site, digests = nine
    with ThreadPoolExecutor(6) as threads:
        fetched = list(threads.map(lambda _: site.machine("server").verify(5, digests[4]), range(12)))
    assert len(set(fetched)) == 1
    assert [path.name for path in fetched[0].parent.iterdir()] == ["v000005"]


def test_what_killed_processes_left_goes_and_one_that_was_stopped_keeps_nobody_waiting(
    nine: tuple[Site, list[str]], monkeypatch: pytest.MonkeyPatch
):
    """A removal that a kill ended midway; a fetch that goes on for ever, with its lock."""
    site, digests = nine
    monkeypatch.setattr(cache, "_WAIT_S", 0.1)
    left = site.folder / "server" / "versions" / ".removed-v000001-1"
    left.mkdir(parents=True)
    (left / "weights.safetensors").touch()
    with FileLock(site.folder / "server" / cache.LOCK_FILE):
        assert site.machine("server").verify(5, digests[4]).is_dir()
    assert not left.exists()


def test_a_frozen_backbone_is_in_the_bucket_once_and_comes_with_its_versions(site: Site):
    learner = site.learner()
    backbones = BackboneStore(learner.backbones)
    digest = backbones.put(small_backbone())
    published = []
    for version in (1, 2):
        folder = write_frozen_artifact(site.folder / "candidate", backbones, digest, seed=version)
        published.append(learner.publish(folder, version))
    assert site.keys("backbones") == {f"backbones/{digest}/backbone.json", f"backbones/{digest}/graph.onnx"}
    server = site.machine("server")
    for version in (1, 2):
        load(server.verify(version, published[version - 1]), version, EngineConfig(device="cpu")).close()
    assert BackboneStore(server.backbones).list() == [digest]
    shutil.rmtree(server.backbones)
    again = site.machine("server")
    load(again.verify(1, published[0]), 1, EngineConfig(device="cpu")).close()


def test_backbones_in_the_bucket_go_by_its_clock_once_nothing_refers_to_them(
    one: Site, monkeypatch: pytest.MonkeyPatch
):
    learner = one.learner()
    backbones = BackboneStore(learner.backbones)
    used, unused = (backbones.put(small_backbone(seed)) for seed in range(2))
    for version, digest in enumerate((used, unused), 1):
        learner.publish(write_frozen_artifact(one.folder / "candidate", backbones, digest), version)
    learner.remove(2)
    assert learner.list_backbones() == {used, unused}
    assert learner.referred() == {used}
    assert learner.retain_backbones({used}, younger_s=3600) == ()
    time.sleep(0.01)
    one.objects.put("later", b"")  # by the bucket's clock the others are older than this
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert learner.retain_backbones({used}, younger_s=0.001) == (unused,)
    assert {key.split("/")[1] for key in one.keys("backbones")} == {used}
    monkeypatch.undo()


def test_two_stores_below_one_prefix_are_told_before_one_removes_the_others_versions(one: Site):
    learner = one.learner()
    learner.publish(one.candidate(), 1)
    stranger = one.machine("stranger")
    with pytest.raises(BucketRefused, match=r"artifacts\.url = .*another store's"):
        stranger.take_over("another store", {})
    with pytest.raises(BucketRefused, match="prefix of its own"):
        stranger.remove(1)
    assert learner.list() == [1]


def test_an_empty_bucket_in_its_place_is_no_damage(one: Site):
    digest = one.learner().publish(one.candidate(), 1)
    one.objects.delete(sorted(one.keys()))
    with pytest.raises(BucketUnavailable, match=r"accrete\.json is not there"):
        one.machine("server").verify(1, digest)


def test_versions_of_a_folder_come_into_a_bucket_that_is_set_later(one: Site):
    folder = ArtifactStore(one.folder / "learner" / "versions")
    digests = {version: folder.publish(one.candidate(content=bytes([version])), version) for version in (1, 2)}
    one.machine("learner").take_over("this store", digests)
    for version, digest in digests.items():
        one.machine("server").verify(version, digest)


def test_a_bucket_that_gives_back_something_else_is_refused(one: Site, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Objects, "get", lambda self, key: b"stale")
    with pytest.raises(BucketRefused, match="not what is read"):
        one.machine("learner").check(writes=True)


@pytest.mark.parametrize(
    "url",
    [
        *(
            "bucket",
            "http://host/bucket",
            "s3://",
            "s3:///prefix",
            "file://folder",
            "file://",
            "s3://b//x",
            "s3://b/../x",
        ),
        *("s3://key:hush@bucket/x", "s3://bucket/x?secret=hush", "gs://bucket#hush", "az://con\ntainer/hush"),
    ],
)
def test_an_address_that_cannot_be_used_is_told_without_a_secret(url: str):
    with pytest.raises(ValueError, match=r"^url = ") as caught:
        ArtifactsConfig(url=url)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["s3://bucket", "s3://bucket/a/b", "gs://bucket/a", "az://container/a", "file:///mnt/a"]
)
def test_addresses_of_buckets(url: str):
    assert ArtifactsConfig(url=url).url == url
