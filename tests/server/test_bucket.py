"""A server whose versions are in a bucket."""

from __future__ import annotations

import shutil
from pathlib import Path

import grpc
import pytest

from accrete.v1 import operation_pb2
from accrete_model.artifacts import open_artifacts
from accrete_model.config import ArtifactsConfig
from accrete_model.errors import BucketRefused
from accrete_server.versions import load_failures
from benchmarks.waiting import until
from tests.model.artifacts import Recipe
from tests.server.world import World, failure
from tests.support.buckets import Buckets


@pytest.fixture
def bucket(world: World, buckets: Buckets) -> Path:
    """A learner's machine publishes into it, and servers share nothing else with that machine."""
    url, _ = buckets.new("file")
    world.home = ArtifactsConfig(url=url)
    world.artifacts = open_artifacts(world.home, world.data_dir / "learner")
    world.artifacts.take_over("this store", {})
    return Path(url.removeprefix("file://"))


def test_a_server_goes_on_while_the_bucket_is_away_and_follows_once_it_is_back(
    world: World, bucket: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(load_failures, "FIRST_RETRY_S", 0.2)
    world.publish(1, Recipe(labels=("cat",)))
    running = world.server()
    assert running.predict().version == 1
    world.publish(2, Recipe(labels=("cat", "dog")))
    running.serves(2)
    names = ("fetched_versions_total", "fetched_bytes_total", "cache_bytes", "cache_limit_bytes")
    told = [running.server.metrics.registry.get_sample_value(f"accrete_{name}") or 0.0 for name in names]
    assert told[0] == 2
    assert 0 < told[1] <= told[2] < told[3] == world.home.cache_bytes

    world.store.registry.activate(2)
    away = bucket.rename(bucket.with_name("away"))
    shutil.rmtree(world.data_dir / "versions" / "v000001")
    asked = operation_pb2.ActivateVersionRequest(version=1)
    refused = failure(lambda: running.operation.ActivateVersion(asked, timeout=300))
    assert (refused.code, "artifacts.url = " in refused.details) == (grpc.StatusCode.FAILED_PRECONDITION, True)
    given_up = operation_pb2.DiscardVersionRequest(version=1)
    kept = failure(lambda: running.operation.DiscardVersion(given_up, timeout=300))
    assert "cannot be told" in kept.details, "a bucket that is away is no damage"
    world.store.registry.activate(1)
    metrics = running.server.metrics.registry
    until(lambda: metrics.get_sample_value("accrete_broken_candidates_total", {"stage": "fetch"}), what="a try")
    assert running.predict().version == 2

    world.store.control.forget_class("dog")
    until(lambda: world.store.registry.forgotten())
    until(lambda: len(running.predict(top_k=5).predictions[0].labels) == 1, what="forgetting waits for no bucket")
    away.rename(bucket)
    running.serves(1)


def test_a_server_that_is_started_without_the_bucket_serves_what_it_has(world: World, bucket: Path):
    world.publish(1, Recipe(labels=("cat",)))
    world.stop(world.server())
    bucket.rename(bucket.with_name("gone"))
    assert world.server().predict().version == 1


def test_a_server_that_can_fetch_nothing_and_has_nothing_does_not_start(
    world: World, buckets: Buckets, monkeypatch: pytest.MonkeyPatch
):
    url, environment = buckets.new("rclone")
    for name, value in (environment | {"AWS_SECRET_ACCESS_KEY": "anotherone"}).items():
        monkeypatch.setenv(name, value)
    world.home = ArtifactsConfig(url=url)
    with pytest.raises(BucketRefused, match=r"artifacts\.url = .*credentials"):
        world.server()
