"""A store with a password and a user of its own: enough rights for everything, and no more than its prefix."""

from __future__ import annotations

import logging
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from accrete_storage.config import HoldoutConfig, StoreConfig
from accrete_storage.embedded.server import _binary
from accrete_storage.errors import StoreMisconfigured, StoreUnavailable
from accrete_storage.store import Store
from benchmarks.bucket import open_in

from .conftest import examples, lease, step, wait_for

pytestmark = pytest.mark.integration

RIGHTS = (
    "~{accrete}:* resetchannels -@all +@read +@write +@connection +@transaction +@scripting "
    "-keys -flushall -flushdb -swapdb +info +config|get +bgrewriteaof +command"
)
"""As the guarantees print it."""


@dataclass(frozen=True)
class Guarded:
    """A server that lets nobody in without a password."""

    path: Path
    admin: redis.Redis

    def url(self, user: str, password: str) -> str:
        return f"unix://{user}:{password}@{self.path}"


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Guarded]:
    path = tmp_path / "s"
    arguments = ["--port", "0", "--unixsocket", str(path), "--dir", str(tmp_path), "--save", ""]
    arguments += ["--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction"]
    process = subprocess.Popen([str(_binary()), *arguments], stdout=subprocess.DEVNULL)
    try:
        wait_for(path)
        with redis.Redis(unix_socket_path=str(path)) as first:
            first.config_set("requirepass", "adm1n")
        with redis.Redis(unix_socket_path=str(path), password="adm1n") as admin:
            admin.execute_command("ACL", "SETUSER", "accrete", "on", ">s3cret-w0rd", *RIGHTS.split())
            yield Guarded(path, admin)
    finally:
        process.terminate()
        process.wait()


def connect(guarded: Guarded, password: str = "s3cret-w0rd", prefix: str = "accrete") -> Store:
    config = StoreConfig(url=guarded.url("accrete", password), prefix=prefix)
    return Store.connect(config, HoldoutConfig(share=0.2), data_dir=guarded.path.parent)


def test_a_user_with_the_rights_that_are_said_can_do_everything(guarded: Guarded, tmp_path: Path):
    store = connect(guarded)
    try:
        store.bind_model("8x8")
        store.pending.add(examples("a", 10))
        assert store.back_up(tmp_path / "backup", open_in(tmp_path / "none")).keys > 3
        held = lease(store)
        assert store.commit(step(store, held, ["a"]))
        held.renew()
        held.release()
        store.pending.add(examples("b", 3))
        assert store.control.delete_examples(["b-1"]).deleted == 1
        store.control.pause()
        store.control.resume()
        assert store.control.forget_class("a").exemplars == 2
        assert store.info().engine == "valkey"
        assert store.events.last_id()
        assert [one.example.id for one in store.pending.read("b")] == ["b-0", "b-2"]
        store.pending.add(examples("c", 1))
        assert store.renaming.rename("b", "d").examples == store.renaming.merge("d", "c").examples == 2
    finally:
        store.close()


def test_it_reaches_no_other_keys(guarded: Guarded):
    guarded.admin.set("another", "1")
    with pytest.raises(StoreMisconfigured, match="user may not"):
        connect(guarded, prefix="another")
    with (
        redis.Redis(unix_socket_path=str(guarded.path), username="accrete", password="s3cret-w0rd") as client,
        pytest.raises(redis.exceptions.NoPermissionError),
    ):
        client.get("another")


def test_a_wrong_password_is_said_and_is_not_shown(guarded: Guarded, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.DEBUG), pytest.raises(StoreMisconfigured, match="credentials") as refused:
        connect(guarded, password="wr0ng-w0rd")
    assert "wr0ng-w0rd" not in f"{refused.value} {refused.value.__cause__} {caplog.text}"


def test_an_encrypted_address_is_understood():
    """The wheel's server has no TLS: what can be shown is that it is asked for, and that a plain server is refused."""
    with socket.create_server(("127.0.0.1", 0)) as plain:
        port = plain.getsockname()[1]
        config = StoreConfig(url=f"rediss://127.0.0.1:{port}", timeout_s=0.2)
        with pytest.raises(StoreUnavailable):
            Store.connect(config, HoldoutConfig(), data_dir=Path("/nowhere"))
