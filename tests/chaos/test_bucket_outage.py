"""The bucket ends at any write of a step, or while a server fetches: answers go on, and the step once it is back."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from accrete_model.config import ArtifactsConfig
from benchmarks.waiting import until
from tests.chaos.processes import Place
from tests.chaos.test_commit_steps import assert_learned_once
from tests.learner_service.helpers import digits
from tests.support.bucket_proxy import BucketProxy
from tests.support.buckets import Buckets

LONG = "ACCRETE_TEST_OUTAGE_S" in os.environ
OUTAGE_S = float(os.environ.get("ACCRETE_TEST_OUTAGE_S", "0.1"))
"""How long it stays away after it was missed. Set, all writes are tried."""
MISSED = {
    "artifact.before": "publish.waits",
    "upload.before": "publish.waits",
    "upload.after": "",
    "commit.after": "versions.kept",
    "commit.before": "",
    "retire.after": "versions.kept",
    "remove.before": "",
}
"""Writes, and what the learner says once it misses the bucket after one."""
AWAY = "."


@pytest.fixture
def proxy(due: Place, buckets: Buckets, monkeypatch: pytest.MonkeyPatch) -> Iterator[BucketProxy]:
    """Before a bucket that has version 1, which processes reach through it alone."""
    url, environment = buckets.new("moto")
    proxy = BucketProxy(environment["AWS_ENDPOINT_URL"])
    due.environment = environment | {"AWS_ENDPOINT_URL": proxy.endpoint}
    for name, value in environment.items():  # this process has a way of its own
        monkeypatch.setenv(name, value)
    due.home = ArtifactsConfig(url=url)
    due.into_bucket()
    yield proxy
    proxy.close()


@pytest.mark.parametrize(("point", "missed"), MISSED.items() if LONG else [*MISSED.items()][1:4:2])
def test_a_step_ends_once_after_the_bucket_was_away_at_any_of_its_writes(
    due: Place, proxy: BucketProxy, point: str, missed: str
):
    learner = due.learner(f"{point}=stop", learner={"keep_versions": 1})
    until(learner.stopped, due.log)
    with proxy.fault(AWAY):
        learner.go_on()
        until(lambda: missed in due.log(), due.log)
        if missed == "publish.waits":
            until(lambda: due.store.control.phase() == "blocked", due.log)
            assert due.store.registry.state().version == 1
        time.sleep(OUTAGE_S)
    until(lambda: due.store.registry.state().version == 2, due.log)
    until(lambda: due.store.control.phase() == "waiting", due.log)
    assert learner.stop() == 0
    assert assert_learned_once(due) == 2
    due.artifacts.verify(2, due.store.registry.version(2).digest)
    if due.artifacts.list() != [2]:  # what could not be removed while it was away goes with the next start, or step
        again = due.learner(learner={"keep_versions": 1})
        until(lambda: due.artifacts.list() == [2], due.log)
        assert again.stop() == 0


def test_a_server_answers_from_the_old_version_while_the_bucket_is_away_and_fetches_the_new_one_after(
    due: Place, proxy: BucketProxy
):
    image = digits(0, 1)[0].tensor
    server = due.server()
    with due.client(server) as client:
        assert client.predict(image).version == 1
        with proxy.fault(r"GET .*/v000002-.*/graph"):  # in the middle of a version
            learner = due.learner()
            until(lambda: due.store.registry.state().version == 2, due.log)
            until(lambda: "version.broken" in due.log("server"), lambda: due.log("server"))
            assert client.predict(image).version == 1
            assert "artifacts.url = " in due.log("server")
        until(lambda: client.predict(image).version == 2, lambda: due.log("server"))
    assert learner.stop() == 0
    assert_learned_once(due)
