"""A server that cannot keep what is promised is refused, with what to set."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from accrete_storage.config import HoldoutConfig, StoreConfig
from accrete_storage.embedded.server import _binary
from accrete_storage.errors import StoreMisconfigured, StoreUnavailable
from accrete_storage.examples.pending import Outcome
from accrete_storage.redis import requirements
from accrete_storage.store import Store

from .conftest import example, wait_for

pytestmark = pytest.mark.integration


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


@pytest.mark.parametrize("program", ["valkey", "redis"])
def test_a_server_that_syncs_each_second_is_refused(serve, tmp_path: Path, program: str):
    binary = str(_binary()) if program == "valkey" else shutil.which("redis-server")
    if binary is None:
        pytest.skip("redis-server is not on the PATH")
    url = serve(binary, appendonly="yes", appendfsync="everysec")
    with pytest.raises(StoreMisconfigured, match="everysec.*appendfsync to always"):
        connect(url, tmp_path)
    connect(url, tmp_path, ack="memory").close()


def test_a_server_that_does_not_sync_while_it_rewrites_is_refused(serve, tmp_path: Path):
    url = serve(str(_binary()), appendonly="yes", appendfsync="always", no_appendfsync_on_rewrite="yes")
    with pytest.raises(StoreMisconfigured, match="no-appendfsync-on-rewrite is yes.*set it to no"):
        connect(url, tmp_path)


def test_a_server_that_lost_its_settings_is_away_until_it_has_them_again(serve, tmp_path: Path):
    url = serve(str(_binary()), appendonly="yes", appendfsync="always")
    store = connect(url, tmp_path)
    assert store.pending.add([example("a", 1)]) == [Outcome.STORED]
    operator = redis.Redis.from_url(url)

    def restart_with(appendfsync: str) -> None:
        """As far as a client can see: other settings, and every connection gone."""
        operator.config_set("appendfsync", appendfsync)
        operator.client_kill_filter(_type="normal", skipme=True)

    restart_with("everysec")
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            store.pending.add([example("a", 2)])
    with pytest.raises(StoreUnavailable, match="appendfsync is everysec"):
        store.pending.add([example("a", 2)])
    restart_with("always")
    assert store.pending.add([example("a", 2)]) == [Outcome.STORED]
    operator.close()
    store.close()


def test_a_replica_is_refused_with_its_primary(serve, tmp_path: Path):
    url = serve(str(_binary()), appendonly="yes", appendfsync="always", replicaof="127.0.0.1 1")
    with pytest.raises(StoreMisconfigured, match=r"replica.*primary 127\.0\.0\.1:1"):
        connect(url, tmp_path)


def test_an_old_server_is_refused():
    with pytest.raises(StoreMisconfigured, match=r"Redis 6\.2\.14; Redis 7\.0 or newer"):
        requirements.check_server({"redis_version": "6.2.14"})
    requirements.check_server({"redis_version": "7.0.15"})


def test_a_server_that_is_not_there_is_unavailable(tmp_path: Path):
    with pytest.raises(StoreUnavailable):
        connect(f"unix://{tmp_path}/nobody", tmp_path)


def test_an_address_that_is_none_is_refused(tmp_path: Path):
    """Already by the configuration, before anything is connected to."""
    with pytest.raises(ValueError, match="url = 'http://nobody'.*redis://, rediss://, unix://"):
        connect("http://nobody", tmp_path)
