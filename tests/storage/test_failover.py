"""A store whose address changes hands: two real servers, one of which is the other's replica, killed and promoted."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis

from accrete_storage.config import HoldoutConfig, StoreConfig
from accrete_storage.errors import StoreMisconfigured, StoreUnavailable
from accrete_storage.examples.pending import Outcome
from accrete_storage.redis.database import reachable
from accrete_storage.store import Store
from benchmarks.waiting import free_port, until
from tests.support.redis_pair import SETTINGS, Address, Node, fail_over, primary_and_replica

from .conftest import examples, lease

pytestmark = pytest.mark.integration


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Node, Node, Address]]:
    with primary_and_replica(tmp_path) as found:
        yield found


@pytest.fixture
def nodes(pair: tuple[Node, Node, Address]) -> tuple[Node, Node]:
    return pair[:2]


@pytest.fixture
def address(pair: tuple[Node, Node, Address]) -> Address:
    return pair[2]


@pytest.fixture
def connect(tmp_path: Path) -> Iterator[Callable[[str], Store]]:
    opened: list[Store] = []

    def connect(url: str) -> Store:
        store = Store.connect(StoreConfig(url=url, timeout_s=2), HoldoutConfig(share=0.0), data_dir=tmp_path)
        opened.append(store)
        store.bind_model("2x2x1")
        return store

    yield connect
    for store in opened:
        store.close()


def added_at_last(store: Store, label: str, count: int) -> int:
    """Add as a caller does that tries again; returns how many tries were refused."""
    refused = 0
    while True:
        try:
            assert set(store.pending.add(examples(label, count))) <= {Outcome.STORED, Outcome.DUPLICATE}
            return refused
        except StoreUnavailable:
            refused += 1
            assert refused < 200
            time.sleep(0.02)


def test_a_primary_that_becomes_a_replica_costs_one_call_and_no_example(nodes, address, connect):
    old, new = nodes
    store, other = connect(address.url), connect(address.url)
    store.pending.add(examples("before", 3))
    mine = lease(store)
    fail_over(old, new, address)  # reads are still answered by connections to the old one, and writes are not
    assert added_at_last(store, "after", 3) == 1
    assert {label: count.examples for label, count in store.pending.counts().items()} == {"before": 3, "after": 3}
    mine.renew()  # on another connection of the pool, which is made anew before it is used
    assert added_at_last(other, "other", 1) == 1
    assert new.client.dbsize() == len(new.client.keys())
    assert new.client.hexists("{accrete}:state", "identity")


def test_a_read_that_waits_on_a_primary_that_becomes_a_replica_goes_on_at_the_new_one(nodes, address, connect):
    old, new = nodes
    store = connect(address.url)
    last = store.events.last_id()
    fail_over(old, new, address)
    with pytest.raises(StoreUnavailable):
        store.control.pause()
    store.control.pause()
    store.events.append("failed", {"reason": "x"})
    assert [event.kind for event in store.events.read(last)] == ["failed"]


def test_a_primary_that_is_killed_is_replaced_by_the_one_promoted(nodes, address, connect):
    old, new = nodes
    store = connect(address.url)
    store.pending.add(examples("before", 3))
    new.caught_up(old)
    old.end()
    with pytest.raises(StoreUnavailable):
        store.pending.add(examples("after", 1))
    address.lead_to(new)
    with pytest.raises(StoreUnavailable, match=f"it is a replica of 127.0.0.1:{old.port} now"):
        store.pending.add(examples("after", 1))  # before it is promoted, it is told what it is
    new.promote()
    assert added_at_last(store, "after", 1) == 0
    assert store.pending.total().examples == 4


def test_a_replica_is_refused_at_the_start_and_names_its_primary(nodes, connect):
    with pytest.raises(StoreMisconfigured, match=f"is a replica .* primary 127.0.0.1:{nodes[0].port}"):
        connect(f"unix://{nodes[1].socket}")


def test_another_store_at_the_same_address_is_refused_by_name_until_the_address_leads_back(nodes, address, connect):
    old, new = nodes
    store = connect(address.url)
    store.pending.add(examples("a", 1))
    new.promote()
    new.client.flushall()
    address.lead_to(new)
    old.client.client_kill_filter(_type="normal", skipme=True)
    with pytest.raises(StoreUnavailable):
        store.pending.add(examples("a", 1, start=1))
    with pytest.raises(StoreUnavailable, match="leads to an empty one now, in which nothing is read or written"):
        store.pending.add(examples("a", 1, start=1))
    assert new.client.dbsize() == 0
    connect(address.url)  # another node begins there
    with pytest.raises(StoreUnavailable, match="leads to another one now"):
        store.pending.add(examples("a", 1, start=1))
    address.lead_to(old)
    assert added_at_last(store, "a", 2) == 0
    assert store.pending.total().examples == 2


@pytest.mark.parametrize(
    ("reply", "error", "says"),
    [
        ("LOADING Redis is loading the dataset in memory", StoreUnavailable, "loading"),
        ("MISCONF Errors writing to the AOF file: No space left", StoreUnavailable, "cannot write"),
        ("NOREPLICAS Not enough good replicas to write.", StoreUnavailable, "cannot write"),
        ("MASTERDOWN Link with MASTER is down", StoreUnavailable, "has become a replica"),
        ("READONLY You can't write against a read only replica.", StoreUnavailable, "has become a replica"),
        ("UNBLOCKED force unblock from blocking operation", StoreUnavailable, "UNBLOCKED"),
        ("CLUSTERDOWN The cluster is down", StoreUnavailable, "cluster is being changed"),
        ("TRYAGAIN Multiple keys request during rehashing of slot", StoreUnavailable, "cluster is being changed"),
        ("ASK 3999 127.0.0.1:6381", StoreUnavailable, "cluster is being changed"),
        ("MOVED 3999 127.0.0.1:6381", StoreMisconfigured, "another node has our keys"),
        ("CROSSSLOT Keys in request don't hash to the same slot", StoreMisconfigured, "another node has our keys"),
        ("NOPERM User has no permissions", StoreMisconfigured, "may not do"),
    ],
)
def test_each_reply_of_a_server_that_cannot_has_its_meaning(nodes, address, connect, reply, error, says):
    store = connect(address.url)
    script = f"return redis.error_reply({reply!r})"
    with pytest.raises(error, match=says), reachable():
        store._database.client.eval(script, 0)
    assert store.pending.add(examples("a", 1)) == [Outcome.STORED]


def test_a_node_of_a_cluster_without_our_keys_is_refused_by_name(tmp_path, connect):
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not on the PATH")
    path = tmp_path / "s"
    command = ["redis-server", "--port", str(free_port()), "--unixsocket", str(path), "--dir", str(tmp_path), *SETTINGS]
    process = subprocess.Popen([*command, "--cluster-enabled", "yes"], stdout=subprocess.DEVNULL)
    try:
        until(path.exists)
        with pytest.raises((StoreUnavailable, StoreMisconfigured), match="cluster"):
            connect(f"unix://{path}")
    finally:
        process.kill()
        process.wait()


def test_a_reader_leaves_a_primary_that_became_a_replica_although_nothing_fails(nodes, address, connect):
    old, new = nodes
    reader = connect(address.url)
    fail_over(old, new, address)
    until(lambda: reader.pending.counts() == {} and not _clients(old))
    assert _clients(new)
    new.client.hset("{accrete}:state", "paused", "1")
    assert reader.control.paused()


def _clients(node: Node) -> list[str]:
    """Return the addresses of whoever else is connected to a server, its primary and replicas aside."""
    me = node.client.client_id()
    found = [*node.client.client_list(_type="normal")]
    return [one["addr"] for one in found if int(one["id"]) != me]


@pytest.mark.parametrize(
    ("scheme", "answer", "says"),
    [
        ("redis", b"HTTP/1.1 400 Bad Request\r\n\r\n", "something else than Redis answers .*HTTP/1.1 400"),
        ("redis", b"SSH-2.0-OpenSSH_9.2\r\n", "something else than Redis answers .*SSH-2.0"),
        ("rediss", b"-ERR unknown command\r\n", "does not encrypt, .* write redis:// for rediss://"),
        ("rediss", b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not encrypt, or something else answers"),
    ],
)
def test_what_is_no_store_is_refused_at_the_start_and_not_waited_for(connect, scheme, answer, says):
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as threads:

        def say() -> None:
            with listener.accept()[0] as caller:
                caller.recv(1024)
                caller.sendall(answer)
                with suppress(ConnectionError):  # hung up on
                    caller.recv(1024)

        said = threads.submit(say)
        with pytest.raises(StoreMisconfigured, match=says):
            connect(f"{scheme}://127.0.0.1:{listener.getsockname()[1]}")
        said.result()


def test_sentinel_names_the_primary_also_after_a_failover(nodes, tmp_path, connect):
    old, new = nodes
    port = free_port()
    with _sentinel(tmp_path, f"port {port}", old.port) as sentinel:
        until(lambda: _replicas(sentinel) == [new.port])
        with pytest.raises(StoreMisconfigured, match="that is Sentinel and no store"):
            connect(f"redis://127.0.0.1:{port}")
        with pytest.raises(StoreUnavailable, match="No master found for 'nobody'"):
            connect(f"redis+sentinel://127.0.0.1:{port}/nobody")
        store = connect(f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{port}/shop/0")
        store.pending.add(examples("before", 2))
        new.caught_up(old)
        until(lambda: _fails_over(sentinel))
        until(lambda: new.client.info("replication")["role"] == "master")
        old.end()
        added_at_last(store, "after", 2)
        assert store.pending.total().examples == 4


def test_sentinel_is_asked_with_its_own_password_and_encrypted(tmp_path, connect):
    """Sentinel and store take encrypted connections alone, each with a password of its own."""
    if shutil.which("openssl") is None or shutil.which("redis-server") is None:
        pytest.skip("openssl or redis-server is not installed")
    making = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=127.0.0.1"
    making += " -addext subjectAltName=IP:127.0.0.1 -keyout own.key -out own.pem"
    subprocess.run(making.split(), cwd=tmp_path, check=True, capture_output=True)
    pem, key = tmp_path / "own.pem", tmp_path / "own.key"
    tls = ["tls-auth-clients no", f"tls-cert-file {pem}", f"tls-key-file {key}", f"tls-ca-cert-file {pem}"]
    port, own = free_port(), free_port()
    words = [f"port 0\ntls-port {own}", "bind 127.0.0.1", f"dir {tmp_path}", "requirepass of-the-store", *tls]
    config = tmp_path / "store.conf"
    config.write_text("\n".join([*words, 'save ""', "appendonly yes", "appendfsync always"]))
    process = subprocess.Popen(["redis-server", str(config)], stdout=subprocess.DEVNULL)
    head = "\n".join([f"port 0\ntls-port {port}", "tls-replication yes", "requirepass of-sentinel", *tls])
    address = f"127.0.0.1:{port}/shop"
    options = f"ssl_ca_certs={pem}"
    try:
        until(lambda: _listens(own))
        with _sentinel(tmp_path, head, own, "sentinel auth-pass shop of-the-store"):
            until(lambda: _listens(port))
            whole = f"rediss+sentinel://:of-the-store@{address}?{options}&sentinel_password=of-sentinel"
            store = connect(whole)
            store.pending.add(examples("a", 2))
            assert store.pending.total().examples == 2
            with pytest.raises(StoreMisconfigured, match="the store's certificate is not accepted .*ssl_ca_certs"):
                connect(f"rediss://:of-the-store@127.0.0.1:{own}")
            for wrong in (whole.replace("of-sentinel", "another"), whole.partition("&")[0]):
                with pytest.raises((StoreUnavailable, StoreMisconfigured)) as refused:
                    connect(wrong)
                assert "another" not in str(refused.value)
    finally:
        process.kill()
        process.wait()


@contextmanager
def _sentinel(folder: Path, head: str, port: int, more: str = "") -> Iterator[redis.Redis]:
    """Run a Sentinel that watches the server at a port as "shop", and yield a client of it, if it is not encrypted."""
    config = folder / "sentinel.conf"
    config.write_text(
        f"{head}\nbind 127.0.0.1\ndir {folder}\nsentinel monitor shop 127.0.0.1 {port} 1\n"
        f"sentinel down-after-milliseconds shop 300\n{more}\n"
    )
    process = subprocess.Popen(["redis-server", str(config), "--sentinel"], stdout=subprocess.DEVNULL)
    try:
        with redis.Redis(port=int(head.partition(" ")[2].partition("\n")[0])) as client:
            yield client
    finally:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _replicas(sentinel: redis.Redis) -> list[int]:
    try:
        return [int(one["port"]) for one in sentinel.sentinel_slaves("shop")]
    except redis.RedisError:
        return []


def _fails_over(sentinel: Any) -> bool:
    try:
        return bool(sentinel.execute_command("SENTINEL", "FAILOVER", "shop"))
    except redis.ResponseError:  # it does not know enough of the replica yet
        return False
