"""A server that cannot keep what is promised is refused, with what to set."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from accrete_storage import requirements
from accrete_storage.config import HoldoutConfig, StoreConfig
from accrete_storage.embedded import _binary
from accrete_storage.errors import StoreMisconfigured, StoreUnavailable
from accrete_storage.pending import Outcome
from accrete_storage.store import Store

from .conftest import example, wait_for


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[object]:
    """Starts a server with some settings; answers its url."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(binary: str, **settings: str) -> str:
        path = tmp_path / f"s{len(processes)}"
        arguments = ["--port", "0", "--unixsocket", str(path), "--dir", str(tmp_path), "--save", ""]
        for name, value in settings.items():
            arguments += [f"--{name.replace('_', '-')}", value]
        processes.append(subprocess.Popen([binary, *arguments], stdout=subprocess.DEVNULL))
        wait_for(path)
        return f"unix://{path}"

    yield start
    for process in processes:
        process.kill()
        process.wait()


def connect(url: str, tmp_path: Path, **settings: object) -> Store:
    return Store.connect(StoreConfig(url=url, **settings), HoldoutConfig(), data_dir=tmp_path)  # type: ignore[arg-type]


def test_a_server_without_persistence_is_refused(serve, tmp_path: Path):
    url = serve(str(_binary()), appendonly="no")
    with pytest.raises(StoreMisconfigured, match="appendonly is no.*set it to yes"):
        connect(url, tmp_path)
    with pytest.raises(StoreMisconfigured, match="does not persist"):
        connect(url, tmp_path, ack="memory")


def test_a_server_that_evicts_is_refused(serve, tmp_path: Path):
    url = serve(str(_binary()), appendonly="yes", appendfsync="always", maxmemory_policy="allkeys-lru")
    with pytest.raises(StoreMisconfigured, match="allkeys-lru.*noeviction"):
        connect(url, tmp_path)


def test_a_server_that_syncs_each_second_is_waited_for_where_it_can_tell(serve, tmp_path: Path):
    url = serve(str(_binary()), appendonly="yes", appendfsync="everysec")
    store = connect(url, tmp_path)
    assert store._database.wait_for_fsync
    assert store.pending.add([example("a", 1)]) == [Outcome.STORED]
    store.close()


def test_a_server_that_syncs_each_second_and_cannot_tell_is_refused(serve, tmp_path: Path):
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("redis-server is not on the PATH")
    url = serve(binary, appendonly="yes", appendfsync="everysec")
    probe = connect(url, tmp_path, ack="memory")
    can_wait = requirements._can_wait(probe._database)
    probe.close()
    if can_wait:
        pytest.skip("this redis-server has WAITAOF")
    with pytest.raises(StoreMisconfigured, match="everysec.*appendfsync to always"):
        connect(url, tmp_path)


def test_an_old_server_is_refused():
    with pytest.raises(StoreMisconfigured, match=r"Redis 6\.2\.14; Redis 7\.0 or newer"):
        requirements.check_version({"redis_version": "6.2.14"})
    requirements.check_version({"redis_version": "7.0.15"})


def test_a_server_that_is_not_there_is_unavailable(tmp_path: Path):
    with pytest.raises(StoreUnavailable):
        connect(f"unix://{tmp_path}/nobody", tmp_path)


def test_an_address_that_is_none_is_refused(tmp_path: Path):
    with pytest.raises(StoreMisconfigured, match=r"store\.url"):
        connect("http://nobody", tmp_path)
