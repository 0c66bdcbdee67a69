"""What a bucket may do in the middle of work: refuse, cut off, alter and hide. By a proxy before a real server."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from accrete_model.bucket import objects
from accrete_model.bucket.store import BucketArtifactStore
from accrete_model.config import ArtifactsConfig
from accrete_model.errors import BucketRefused, BucketUnavailable, CorruptArtifact
from accrete_model.frozen import BackboneStore
from accrete_model.reader import read_card
from benchmarks.waiting import free_port
from tests.model.artifacts import small_backbone, write_frozen_artifact
from tests.model.test_bucket import Site, cached
from tests.support.bucket_proxy import BucketProxy
from tests.support.buckets import Buckets

SETTING = r"artifacts\.url = 's3://bucket/p\d+': "


@pytest.fixture
def proxied(buckets: Buckets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Site, BucketProxy]]:
    """A bucket, and what is before it."""
    url, environment = buckets.new("moto")
    proxy = BucketProxy(environment["AWS_ENDPOINT_URL"])
    for name, value in (environment | {"AWS_ENDPOINT_URL": proxy.endpoint}).items():
        monkeypatch.setenv(name, value)
    yield Site(ArtifactsConfig(url=url), tmp_path), proxy
    proxy.close()


REFUSALS = [
    (403, "AccessDenied", "lack the right to list, read, write and delete below the prefix"),
    (400, "ExpiredToken", "the credentials of the environment have expired"),
    (403, "RequestTimeTooSkewed", "this machine's clock and the bucket's are too far apart"),
    (400, "AuthorizationHeaderMalformed", r"another region than the environment says \(AWS_REGION\)"),
    (301, "PermanentRedirect", r"another region than the environment says \(AWS_REGION\)"),
    (404, "NoSuchBucket", "there is no such bucket"),
]


@pytest.mark.parametrize(("status", "code", "said"), REFUSALS, ids=[code for _, code, _ in REFUSALS])
def test_a_refusal_names_the_setting_and_what_to_change_and_nothing_is_lost_by_it(
    proxied: tuple[Site, BucketProxy], status: int, code: str, said: str
):
    """In the middle of work, where it is waited for, as at a start."""
    site, proxy = proxied
    learner, server = site.learner(), site.machine("server")
    digest = learner.publish(site.candidate(), 1)
    candidate = site.candidate(content=b"2")
    with proxy.fault(".", status=status, code=code):
        for attempt in (
            lambda: site.machine("another").check(writes=False),
            lambda: learner.publish(candidate, 2),
            lambda: server.verify(1, digest),
            lambda: learner.remove(1),
            learner.list,
            learner.referred,
            lambda: learner.retain_backbones((), younger_s=0),
        ):
            with pytest.raises(BucketRefused, match=SETTING + ".*" + said):
                attempt()
        assert learner.verify(1, digest) == learner.path(1), "what is here is served"
    server.verify(1, digest)
    server.verify(2, learner.publish(candidate, 2))


@pytest.mark.parametrize("asked", ["PUT .*manifest", "PUT .*weights"])
def test_a_right_that_is_taken_away_in_the_middle_leaves_what_was_there(proxied: tuple[Site, BucketProxy], asked: str):
    site, proxy = proxied
    learner = site.learner()
    digest = learner.publish(site.candidate(), 1)
    candidate = site.candidate(content=b"2")
    with proxy.fault(asked, status=403, code="AccessDenied"):
        with pytest.raises(BucketRefused, match=SETTING + "cannot be written"):
            learner.publish(candidate, 2)
        assert site.machine("server").verify(1, digest).is_dir()
    site.machine("server").verify(2, learner.publish(candidate, 2))


def test_a_right_to_list_or_delete_that_is_lacking_is_told_at_the_start(proxied: tuple[Site, BucketProxy]):
    site, proxy = proxied
    for asked, writes in (("list-type", False), ("DELETE|POST .*delete", True)):
        with proxy.fault(asked, status=403, code="AccessDenied"), pytest.raises(BucketRefused, match=SETTING):
            site.machine("new").check(writes=writes)


def test_objects_that_a_bucket_says_it_does_not_delete_are_told(proxied: tuple[Site, BucketProxy]):
    """In an answer whose status is 200."""
    site, proxy = proxied
    learner = site.learner()
    learner.publish(site.candidate(), 1)
    keep = partial(re.sub, rb"<Deleted>(.*?)</Deleted>", rb"<Error>\1<Code>AccessDenied</Code></Error>")
    with proxy.fault("POST .*delete", body=keep), pytest.raises(BucketUnavailable, match=SETTING):
        learner.remove(1)
    learner.remove(1)
    assert learner.list() == []


@pytest.mark.parametrize("asked", [r"GET .*weights", r"GET .*manifest", "list-type"])
def test_an_answer_that_is_cut_off_is_no_damage_and_is_had_whole_at_the_next_try(
    proxied: tuple[Site, BucketProxy], asked: str
):
    site, proxy = proxied
    learner, server = site.learner(), site.machine("server")
    digest = learner.publish(site.candidate(500_000), 1)
    with proxy.fault(asked, cut_after=100), pytest.raises(BucketUnavailable, match=SETTING):
        server.list() if asked == "list-type" else server.verify(1, digest)
    assert cached(server) == []
    server.verify(1, digest)


def test_a_file_that_takes_longer_than_one_request_may_is_read_all_the_same(
    proxied: tuple[Site, BucketProxy], monkeypatch: pytest.MonkeyPatch
):
    site, proxy = proxied
    digest = site.learner().publish(site.candidate(600_000), 1)
    monkeypatch.setattr(objects, "_LARGE_S", 2)
    monkeypatch.setattr(objects, "_PART_BYTES", 100_000)
    with proxy.fault("GET .*weights", slow_s=0.5):
        site.machine("server").verify(1, digest)
    assert len([one for one in proxy.requests if "weights" in one and one.startswith("GET")]) > 6


def test_a_backbone_that_takes_longer_than_one_request_may_is_read_all_the_same(
    proxied: tuple[Site, BucketProxy], monkeypatch: pytest.MonkeyPatch
):
    site, proxy = proxied
    learner, server = site.learner(), site.machine("server")
    backbones = BackboneStore(learner.backbones)
    backbone = backbones.put(small_backbone())
    digest = learner.publish(write_frozen_artifact(site.folder / "candidate", backbones, backbone), 1)
    graph = (backbones.path(backbone) / "graph.onnx").stat().st_size
    monkeypatch.setattr(objects, "_LARGE_S", 2)
    monkeypatch.setattr(objects, "_SMALL_S", 2)
    monkeypatch.setattr(objects, "_PART_BYTES", graph // 5)
    with proxy.fault("GET .*graph.onnx", slow_s=3 * 100_000 / graph):
        server.verify(1, digest)
    assert BackboneStore(server.backbones).path(backbone).is_dir()


def test_a_password_in_an_endpoints_address_is_shown_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name, value in (
        ("AWS_ENDPOINT_URL", f"http://me:sekret@127.0.0.1:{free_port()}"), ("AWS_REGION", "here"),
        ("AWS_ACCESS_KEY_ID", "name"), ("AWS_SECRET_ACCESS_KEY", "hush"),
    ):  # fmt: skip
        monkeypatch.setenv(name, value)
    with pytest.raises(BucketUnavailable, match=r"cannot be listed: .*//\*\*\*@127") as refused:
        objects.Objects("s3://bucket/p").list("")
    assert "sekret" not in str(refused.value)
    assert refused.value.__cause__ is None


@pytest.mark.parametrize("name", ["a%20b", "a#b", "a?b", "a@b", "a\\b", 'a"b', "a b", "früh"])
def test_any_folder_is_a_bucket(name: str, tmp_path: Path):
    folder = tmp_path / name
    folder.mkdir()
    url = ArtifactsConfig(url=f"file://{folder}").url
    bucket = objects.Objects(url)
    bucket.put("versions/one", b"1")
    assert bucket.get("versions/one") == b"1"
    assert (folder / "versions" / "one").read_bytes() == b"1"
    assert str(folder) in bucket.setting.replace("\\\\", "\\")


@pytest.mark.parametrize("change", [lambda body: body[:-1], lambda body: b"x" + body[1:]], ids=["shorter", "another"])
def test_an_answer_that_is_altered_on_the_way_comes_nowhere(
    proxied: tuple[Site, BucketProxy], change: Callable[[bytes], bytes]
):
    site, proxy = proxied
    digest = site.learner().publish(site.candidate(), 1)
    server = site.machine("server")
    for name in ("weights", "manifest"):
        with (
            proxy.fault(f"GET .*{name}", body=change),
            pytest.raises(CorruptArtifact, match=rf"{name}.* in the bucket"),
        ):
            server.verify(1, digest)
        assert cached(server) == []
    server.verify(1, digest)


def test_who_answers_everything_with_a_page_of_their_own_tells_no_damage(proxied: tuple[Site, BucketProxy]):
    site, proxy = proxied
    digest = site.learner().publish(site.candidate(), 1)
    server = site.machine("server")
    with (
        proxy.fault("GET ", body=lambda body: b"<html>sign in</html>"),
        pytest.raises(BucketUnavailable, match=f"{SETTING}accrete.json is not there"),
    ):
        server.verify(1, digest)
    assert cached(server) == []
    server.verify(1, digest)


def test_why_nobody_answers_is_told_and_what_does_not_encrypt_is_refused(monkeypatch: pytest.MonkeyPatch):
    for name in ("AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(BucketUnavailable, match="Connection refused$"):
        objects.Objects("s3://bucket/p").list("")
    plain = BucketProxy("http://127.0.0.1:1")
    try:
        monkeypatch.setenv("AWS_ENDPOINT_URL", plain.endpoint.replace("http:", "https:"))
        with pytest.raises(BucketRefused, match="does not encrypt: write http:// for https://"):
            objects.Objects("s3://bucket/p").list("")
    finally:
        plain.close()


def test_a_listing_that_comes_late_removes_nothing_that_is_in_use(proxied: tuple[Site, BucketProxy]):
    """It has neither the newest version nor its backbone yet, nor knows of what was removed."""
    site, proxy = proxied
    learner = site.learner()
    backbones = BackboneStore(learner.backbones)
    first, second = (backbones.put(small_backbone(seed)) for seed in range(2))
    digests = [
        learner.publish(write_frozen_artifact(site.folder / "candidate", backbones, digest), version)
        for version, digest in ((1, first), (2, second))
    ]

    def without_second(body: bytes) -> bytes:
        return re.sub(
            rb"<Contents>(?:(?!</Contents>).)*?<Key>[^<]*(?:v000002|%s)(?:(?!</Contents>).)*</Contents>"
            % second.encode(),
            b"",
            body,
            flags=re.DOTALL,
        )

    with proxy.fault("list-type", body=without_second):
        assert 2 in learner.list(), "it is here"
        assert site.machine("elsewhere").list() == [1]
        assert learner.referred() == {first, second}
        assert learner.retain_backbones(learner.referred(), younger_s=3600) == ()
        site.machine("learner").take_over("this store", {1: digests[0], 2: digests[1]})
    site.machine("server").verify(2, digests[1])
    before: list[bytes] = []

    def noted(body: bytes) -> bytes:
        before.append(body)
        return body

    with proxy.fault("list-type.*versions", body=noted):
        learner.list()
    learner.remove(1)
    with proxy.fault("list-type.*versions", body=lambda _: before[0]):
        learner.remove(1)
        assert second in learner.referred()
    assert learner.referred() == {second}
    assert learner.list() == [2]


def test_objects_of_an_interrupted_start_or_upload_go(proxied: tuple[Site, BucketProxy]):
    site, proxy = proxied
    learner = site.learner()
    with proxy.fault("DELETE|POST .*delete"), pytest.raises(BucketUnavailable):
        learner.check(writes=True)
    with proxy.fault("PUT .*manifest"), pytest.raises(BucketUnavailable):
        learner.publish(site.candidate(), 1)
    assert learner.retain_backbones((), younger_s=3600) == ()
    assert [found for found in site.objects.list("") if found.key.startswith("probe-")], (
        "another learner may be starting now"
    )
    time.sleep(1.1)  # the bucket's clock has whole seconds
    site.objects.put("later", b"")
    learner.retain_backbones((), younger_s=0.5)
    learner.remove(1)
    assert site.keys() == {"accrete.json", "later"}


def test_two_learners_that_write_one_number_write_two_versions_and_the_record_says_which(
    proxied: tuple[Site, BucketProxy],
):
    site, _ = proxied
    stalled, next_one = site.learner("stalled"), site.learner("next")
    folders = [site.candidate(content=b"s").rename(site.folder / "s"), site.candidate(content=b"n")]
    with ThreadPoolExecutor(2) as threads:
        digests = list(
            threads.map(lambda one: one[0].publish(one[1], 2), zip((stalled, next_one), folders, strict=True))
        )
    for number, (digest, content) in enumerate(zip(digests, (b"s", b"n"), strict=True)):
        folder = site.machine(f"server{number}").verify(2, digest)
        assert (folder / "weights.safetensors").read_bytes() == content * 1000
        assert next_one.verify(2, digest).is_dir(), "what another wrote under its number is replaced here"


def test_a_removal_and_a_publication_at_once_touch_nothing_of_each_other(proxied: tuple[Site, BucketProxy]):
    site, _ = proxied
    learner, collector = site.learner(), site.learner("collector")
    backbones = BackboneStore(learner.backbones)
    shared = backbones.put(small_backbone())
    published: dict[int, str] = {}
    done = threading.Event()

    def collect() -> None:
        while not done.is_set():
            for version in collector.list()[:-2]:
                collector.remove(version)
            collector.retain_backbones(collector.referred(), younger_s=3600)

    with ThreadPoolExecutor(1) as threads:
        collecting = threads.submit(collect)
        for version in range(1, 7):
            folder = write_frozen_artifact(site.folder / "candidate", backbones, shared, seed=version)
            published[version] = learner.publish(folder, version)
        done.set()
        collecting.result()
    for version in (5, 6):
        folder = site.machine("server").verify(version, published[version])
        assert read_card(folder).frozen == shared
        BackboneStore(site.machine("server").backbones).get(shared)


def test_the_cache_holds_its_bound_while_several_fetch(proxied: tuple[Site, BucketProxy]):
    site, _ = proxied
    learner = site.learner()
    digests = [learner.publish(site.candidate(300_000, bytes([version])), version) for version in range(1, 9)]
    server = site.machine("server", cache_bytes=2_000_000)
    most, done = [0], threading.Event()

    def watch(server: BucketArtifactStore) -> None:
        while not done.is_set():
            most.append(server.cache_state().bytes)

    with ThreadPoolExecutor(5) as threads:
        watching = threads.submit(watch, server)
        list(threads.map(lambda version: server.verify(version, digests[version - 1]), range(1, 9)))
        done.set()
        watching.result()
    assert 600_000 < max(most) <= 2_000_000
    state = server.cache_state()
    assert (state.fetched_versions, state.limit) == (8, 2_000_000)
    assert 8 * 300_000 < state.fetched_bytes < 8 * 310_000


def test_a_bucket_that_is_gone_says_nothing_of_a_backbone(proxied: tuple[Site, BucketProxy]):
    site, proxy = proxied
    learner = site.learner()
    backbones = BackboneStore(learner.backbones)
    digest = learner.publish(
        write_frozen_artifact(site.folder / "candidate", backbones, backbones.put(small_backbone())), 1
    )
    server = site.machine("server")
    with proxy.fault("GET .*backbones", status=404, code="NoSuchBucket"), pytest.raises(BucketRefused):
        server.verify(1, digest)
    with proxy.fault("GET .*graph", cut_after=10), pytest.raises(BucketUnavailable):
        server.verify(1, digest)
    server.verify(1, digest)
