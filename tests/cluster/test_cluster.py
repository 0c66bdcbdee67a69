"""`accrete cluster` on two real raylets: started, taught, hurt, upgraded, refused and ended."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from accrete import AccreteError, Client
from accrete_cluster.connection import connected
from accrete_cluster.controller import CLAIM_S
from accrete_cluster.replica import Replica
from accrete_cluster.spec import SERVER, namespace, spec_of
from accrete_node.settings import load_settings
from accrete_storage.config import HoldoutConfig
from benchmarks.cluster.load import Load
from benchmarks.nemesis import checker
from benchmarks.nemesis.ledger import Ledger
from benchmarks.waiting import free_port, until

from .conftest import Place

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def up(place: Place) -> Place:
    """The place with a cluster on it."""
    done = place.run("up")
    assert done.returncode == 0, done.stderr + done.stdout
    assert "whole, servers 2 of 2, learners 2 of 2" in done.stdout
    return place


def of_kind(found: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [one for one in found["members"] if one["kind"] == kind]


def test_what_another_cluster_or_an_embedded_store_has_is_refused_before_anything_starts(place: Place):
    refused = place.run("up", "--redis", "")
    assert refused.returncode == 2
    assert refused.stderr.startswith("accrete: store.url = '': a cluster needs a Redis or Valkey")
    assert place.store.clusters.claim("another", "Ray at elsewhere:6379", CLAIM_S) is None
    refused = place.run("up")
    assert refused.returncode == 2
    assert "store.prefix = " in refused.stderr
    assert "another cluster (Ray at elsewhere:6379) runs on it" in refused.stderr
    place.store.clusters.release("another")
    assert "no cluster of store.prefix" in place.run("status").stderr


def test_the_address_that_is_given_counts_whatever_the_environment_says(place: Place, monkeypatch: pytest.MonkeyPatch):
    nobodys = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv("RAY_ADDRESS", nobodys)
    for given in (place, replace(place, address="auto")):
        assert "no cluster of store.prefix" in given.run("status").stderr
    assert f"no Ray answers at {nobodys}" in replace(place, address="").run("status").stderr
    monkeypatch.setenv("RAY_ADDRESS", place.address)
    assert "no cluster of store.prefix" in replace(place, address="").run("status").stderr


def test_it_learns_and_answers_and_what_is_killed_comes_back(up: Place):
    found = up.status()
    servers, learners = of_kind(found, "server"), of_kind(found, "learner")
    assert {one["address"] for one in servers} == set(up.members().values())
    nodes = [one["folder"] for one in learners]
    assert len(set(nodes)) == 2
    assert [one["leads"] for one in learners].count(True) == 1
    vectors = [(str(label), np.eye(8, dtype=np.float32)[label]) for label in range(3) for _ in range(6)]
    with Client(",".join(one["address"] for one in servers)) as client:
        version = client.wait_learned(client.add_examples(vectors).ids, timeout=300)
        until(lambda: client.predict(vectors[0][1]).version == version)

        before = up.members()
        os.kill(servers[0]["pid"], signal.SIGKILL)
        assert client.predict(vectors[7][1]).label == "1", "the other one answers"
        until(lambda: len(up.members()) == 2 and up.members().keys() != before.keys(), seconds=120)
        os.kill(servers[1]["actor_pid"], signal.SIGKILL)
        until(lambda: servers[1]["address"] not in up.members().values(), seconds=120)
        until(lambda: len(up.members()) == 2, seconds=120)
    again = until(lambda: (now := up.status())["whole"] and now, seconds=120)
    assert servers[0]["name"] in {one["name"] for one in again["members"]}, "its actor started it again"
    assert servers[1]["name"] not in {one["name"] for one in again["members"]}


def test_what_is_acknowledged_is_learned_once_though_a_server_and_the_learner_that_leads_are_killed(
    up: Place, tmp_path: Path
):
    (address,) = up.status()["addresses"]  # the one that stays good, whoever is killed
    ledger = Ledger(tmp_path / "ledger.jsonl")
    load = Load(lambda: Client(address, timeout=300), ledger, dimensions=8, seed=1, run="killed")
    with load.steady():
        until(lambda: len(ledger.acknowledged) > 10)
        for kind in ("server", "learner"):
            members = of_kind(until(lambda: (now := up.status())["whole"] and now), kind)
            victim = next((one for one in members if one["leads"]), members[0])
            os.kill(victim["pid"], signal.SIGKILL)
        before = len(ledger.acknowledged)
        until(lambda: len(ledger.acknowledged) > before + 10)
    assert load.answers.failed == load.answers.refused == []
    until(lambda: up.store.pending.total().examples == 0)
    verdict = checker.check(ledger, checker.read(up.store, ledger.sent), per_class=0, holdout=HoldoutConfig(share=0.0))
    assert verdict.lost == verdict.relearned == set()
    assert {label for label in verdict.miscounted if label in ledger.sent.values()} == set()
    ledger.close()


def test_a_controller_that_has_a_successor_ends_and_what_it_asks_for_is_refused(up: Place):
    before = until(lambda: (now := up.status())["whole"] and now)
    newer = up.store.clusters.begin()
    until(lambda: (up.status().get("epoch") or 0) > newer, seconds=120)  # Ray has started another
    settings = load_settings({}, up.config)
    server = of_kind(before, "server")[0]
    with connected(up.address, namespace(settings.store.prefix)) as ray:
        handle = ray.get_actor(server["name"])
        assert ray.get(handle.end.remote(newer), timeout=60) is False
        late = ray.remote(Replica).options(num_cpus=0).remote(spec_of(settings, ""), SERVER, "127.0.0.1", newer)
        with pytest.raises(ray.exceptions.RayActorError, match="a controller asked for this that has a successor"):
            ray.get(late.state.remote(), timeout=180)
    after = until(lambda: (now := up.status())["whole"] and now)
    assert {one["pid"] for one in after["members"]} == {one["pid"] for one in before["members"]}


def test_other_settings_replace_all_of_it_one_by_one_and_no_call_fails(up: Place):
    before = up.members()
    assert up.run("up").returncode == 0
    assert up.members() == before, "nothing has changed"
    up.config.write_text(up.config.read_text() + "\nserver.grace_s = 4\n")
    with Client(next(iter(before.values()))) as client, calling(client) as answers:
        done = up.run("up")
        assert done.returncode == 0, done.stderr + done.stdout
        count = len(answers)
        until(lambda: len(answers) > count + 20, what=lambda: str(answers[-3:]))
    assert set(answers) == {"1"}
    found = up.status()
    assert all(one["current"] and one["state"] == "ready" for one in found["members"])
    assert not before.keys() & up.members().keys()
    assert {one["address"] for one in of_kind(found, "server")} == set(up.members().values())


@contextmanager
def calling(client: Client) -> Iterator[list[str]]:
    """Ask again and again on a thread for as long as the block lasts; yield the answers, or what was raised."""
    answers: list[str] = []
    ended = threading.Event()

    def ask() -> None:
        while not ended.wait(0.02):
            try:
                answers.append(client.predict(np.eye(8, dtype=np.float32)[1], timeout=60).label or "")
            except AccreteError as error:
                answers.append(repr(error))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield answers
    finally:
        ended.set()
        thread.join()


def start_of(pid: int) -> str:
    """When a process started, by the kernel's count; empty where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def test_it_ends_with_all_that_it_started(up: Place):
    born = {one["pid"]: start_of(one["pid"]) for one in up.status()["members"]}
    done = up.run("down")
    assert done.returncode == 0, done.stderr
    assert up.members() == {}
    assert not any(start_of(pid) == start for pid, start in born.items())
    assert up.store.clusters.claim("another", "elsewhere", 0.01) is None, "the prefix is free"
    assert up.run("down").returncode == 2
