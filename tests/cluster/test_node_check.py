"""What keeps a node from taking part, told with the setting to change."""

from __future__ import annotations

import dataclasses
import socket
from pathlib import Path

import pytest

from accrete_cluster import node_check
from accrete_cluster.node_check import check_node
from accrete_cluster.operating import _mark
from accrete_cluster.slot import Slot
from accrete_cluster.spec import Spec, on_node, spec_of
from accrete_node.settings import Settings, load_settings
from accrete_storage.members import Member
from accrete_storage.store import Store
from benchmarks.waiting import free_port
from tests.support.store import SharedStore

HERE = "127.0.0.1"
ELSEWHERE = "10.0.0.5"


@pytest.fixture
def settings(tmp_path: Path, shared_store: SharedStore) -> Settings:
    store = shared_store.config()
    flags = {
        "data_dir": str(tmp_path / "data"),
        "preset": "embeddings",
        "store": {"url": store.url, "prefix": store.prefix},
        "model": {"embedding": 8},
        "server": {"port": 0},
    }
    return load_settings(flags, resolved=True)


def marked(settings: Settings) -> Spec:
    return spec_of(settings, _mark(settings))


def test_a_node_that_has_everything_is_fit(settings: Settings):
    found = check_node(marked(settings), HERE)
    assert (found.problems, found.warnings) == ([], [])


def test_another_release_is_named_and_nothing_else_looked_at(settings: Settings):
    spec = dataclasses.replace(marked(settings), software="0.0.9", settings_text="nonsense")
    (problem,) = check_node(spec, HERE).problems
    assert "install the same release on every node" in problem
    assert "0.0.9" in problem


def test_a_data_directory_that_is_missing_or_another_one_is_refused(settings: Settings, tmp_path: Path):
    spec = marked(settings)
    (problem,) = check_node(dataclasses.replace(spec, mark="another"), HERE).problems
    assert problem.startswith(f"data_dir = '{tmp_path / 'data'}': it is another folder")
    (tmp_path / "data").rename(tmp_path / "away")
    (problem,) = check_node(spec, HERE).problems
    assert problem.startswith(f"data_dir = '{tmp_path / 'data'}': it is not there")
    assert "artifacts.url" in problem
    assert not (tmp_path / "data").exists(), "looking makes nothing"


def test_a_port_that_others_have_is_refused_and_one_that_servers_of_this_cluster_share_is_not(settings: Settings):
    with socket.create_server((HERE, 0), reuse_port=True) as other:
        port = other.getsockname()[1]
        spec = marked(settings.model_copy(update={"server": dataclasses.replace(settings.server, port=port)}))
        (problem,) = check_node(spec, HERE).problems
        assert problem.startswith(f"server.port = {port}: another process listens at {HERE}")
        store = Store.connect(settings.store, settings.holdout, data_dir=settings.data_dir)
        address = f"{HERE}:{free_port()}"
        member = Member(id="a", address=address, started_ms=0, release="0", version=0, state="serving", busyness=0)
        store.members.tell(member, 300)
        store.close()
        assert check_node(spec, HERE).problems == []


def test_a_bucket_needs_no_shared_folder(settings: Settings, tmp_path: Path):
    pytest.importorskip("obstore")
    bucket = dataclasses.replace(settings.artifacts, url=f"file://{tmp_path / 'bucket'}")
    spec = marked(settings.model_copy(update={"artifacts": bucket}))
    assert spec.mark == ""
    assert check_node(spec, HERE).problems == []


def test_a_store_that_cannot_be_reached_is_named(settings: Settings, tmp_path: Path):
    store = dataclasses.replace(settings.store, url=f"unix://{tmp_path / 'nobody'}", timeout_s=0.5)
    (problem,) = check_node(marked(settings.model_copy(update={"store": store})), HERE).problems
    assert problem.startswith("store.url: it cannot be reached from there")


def test_an_address_that_others_reach_without_encryption_is_refused(settings: Settings):
    (problem,) = check_node(marked(settings), ELSEWHERE).problems
    assert "server.host = '10.0.0.5'" in problem
    assert "access.insecure = true" in problem


def test_files_of_access_are_looked_for(settings: Settings, tmp_path: Path):
    access = dataclasses.replace(settings.access, tokens=str(tmp_path / "tokens"))
    (problem,) = check_node(marked(settings.model_copy(update={"access": access})), HERE).problems
    assert problem.startswith(f"access.tokens = '{tmp_path / 'tokens'}': it cannot be read there")


def test_clocks_that_are_apart_are_told_and_hinder_nothing(settings: Settings, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(node_check, "CLOCK_S", -1.0)
    found = check_node(marked(settings), HERE)
    assert found.problems == []
    assert "let both follow a time server" in found.warnings[0]


def test_the_generation_follows_the_settings_and_not_how_many_there_are(settings: Settings):
    spec = marked(settings)
    more = settings.model_copy(update={"cluster": dataclasses.replace(settings.cluster, servers=5)})
    assert marked(more).generation == spec.generation
    assert marked(more) != spec
    other = settings.model_copy(update={"server": dataclasses.replace(settings.server, queue=5)})
    assert marked(other).generation != spec.generation
    assert dataclasses.replace(spec, software="0.0.9").generation != spec.generation
    assert spec.settings().store == settings.store


def test_each_process_has_a_folder_of_its_own_that_the_next_one_takes_over(settings: Settings):
    settings.data_dir.mkdir()
    first, second = Slot(settings, "server"), Slot(settings, "server")
    assert first.folder != second.folder
    (first.folder / "versions" / "v1").mkdir()
    assert (second.folder / "versions" / "v1").is_dir(), "versions are shared"
    assert (settings.data_dir / "versions" / "v1").is_dir()
    placed = on_node(settings, ELSEWHERE, first.folder)
    assert (placed.server.host, placed.server.port, placed.server.advertise) == (ELSEWHERE, 0, ELSEWHERE)
    assert placed.server.node == f"cluster/{settings.store.prefix}"
    first.release()
    again = Slot(settings, "server")
    assert again.folder == first.folder
    for one in (second, again):
        one.release()
