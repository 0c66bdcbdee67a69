"""Real stores: the embedded Valkey, and Debian's redis-server where it is installed."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import redis

from accrete_storage.config import HoldoutConfig, StoreConfig, TeachingConfig
from accrete_storage.examples.example import Example
from accrete_storage.examples.memory import MemoryTotal
from accrete_storage.store import Store
from accrete_storage.versions.commit import Commit, Lease
from accrete_storage.versions.record import VersionRecord
from benchmarks.waiting import until
from tests.support.store import SharedStore

_numbers = itertools.count()


@pytest.fixture(scope="session")
def valkey(shared_store: SharedStore) -> str:
    return shared_store.url


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not on the PATH")
    folder = tmp_path_factory.mktemp("redis")
    process = redis_process(folder)
    yield f"unix://{folder / 's'}"
    process.terminate()
    process.wait()


def redis_process(folder: Path) -> subprocess.Popen[bytes]:
    """A redis-server that answers at the socket `s` in the folder."""
    path = folder / "s"
    path.unlink(missing_ok=True)
    arguments = ["--port", "0", "--unixsocket", str(path), "--dir", str(folder), "--save", ""]
    arguments += ["--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction"]
    process = subprocess.Popen(["redis-server", *arguments], stdout=subprocess.DEVNULL)
    wait_for(path)
    return process


def wait_for(path: Path) -> None:
    def answers() -> bool:
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False

    with redis.Redis(unix_socket_path=str(path)) as client:
        until(answers, f"a server at {path}")


@pytest.fixture(params=["valkey", "redis_server"])
def url(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(request.param)
    return found


Connect = Callable[..., Store]


@pytest.fixture
def connect(url: str, tmp_path: Path) -> Iterator[Connect]:
    """Connects under a prefix of the test's own."""
    opened: list[Store] = []
    prefix = f"storage{next(_numbers)}"

    def connect(share: float = 0.0, teaching: TeachingConfig | None = None, **settings: object) -> Store:
        config = StoreConfig(**{"url": url, "prefix": prefix} | settings)  # type: ignore[arg-type]
        teaching = teaching or TeachingConfig()
        store = Store.connect(config, HoldoutConfig(share=share), data_dir=tmp_path, teaching=teaching)
        opened.append(store)
        return store

    yield connect
    for store in opened:
        store.close()


@pytest.fixture
def store(connect: Connect) -> Store:
    return connect()


def example(label: str, number: int, value: int | None = None) -> Example:
    tensor = np.full((2, 2, 1), number if value is None else value, np.uint8)
    return Example(id=f"{label}-{number}", label=label, content=tensor, metadata={"n": str(number)})


def examples(label: str, count: int, start: int = 0) -> list[Example]:
    return [example(label, number) for number in range(start, start + count)]


def record(store: Store, labels: list[str], learned: dict[str, str], **changes: object) -> VersionRecord:
    values = {
        "version": store.registry.next_version(),
        "state": "ready",
        "parent": 0,
        "created_ms": 1,
        "labels": labels,
        "new_labels": labels,
        "method": "lucir",
        "digest": "",
        "accuracy": {},
        "class_accuracy": {},
        "step_seconds": 1.0,
        "stage_seconds": {},
        "learned": learned,
        "revision": store.registry.state().revision,
        "since": dict.fromkeys(labels, 1),
    }
    return VersionRecord(**(values | changes))  # type: ignore[arg-type]


def step(
    store: Store,
    lease: Lease,
    labels: list[str],
    *,
    per_class: int = 2,
    known: list[str] | None = None,
    features: dict[str, dict[str, bytes]] | None = None,
    **changes: object,
):
    """Reads what is pending for some labels and prepares a commit of all of it; stages the first two as exemplars."""
    revision = store.registry.state().revision
    entries = {label: store.pending.read(label) for label in labels}
    upto = {label: found[-1].position for label, found in entries.items()}
    name = f"step{next(_numbers)}"
    store.stage(
        name,
        {label: [entry.example for entry in found if not entry.holdout][:2] for label, found in entries.items()},
        {label: [entry.example for entry in found if entry.holdout] for label, found in entries.items()},
        features,
    )
    parent = store.registry.latest_ready()
    before = {} if parent is None else {one: at for one, at in parent.learned.items() if one in (known or [])}
    made = record(store, (known or []) + labels, before | upto, revision=revision)
    values = {
        "epoch": lease.epoch,
        "revision": revision,
        "step_id": name,
        "record": made,
        "consumed": upto,
        "per_class": per_class,
        "event": {"version": made.version},
    }
    return Commit(**(values | changes))  # type: ignore[arg-type]


def lease(store: Store, owner: str = "me", ttl_s: float = 30.0) -> Lease:
    found = store.acquire_lease(owner, ttl_s)
    assert found is not None
    return found


def ids(found: list[Example]) -> list[str]:
    return [one.id for one in found]


def assert_counters_exact(store: Store) -> None:
    """The counters say what is really there. Records are as they came, whatever their class is called since."""
    client, keys = store._database.client, store._keys
    counts = store.pending.counts()
    read = {label: store.pending.read(label) for label in counts}
    assert {label: count.examples for label, count in counts.items()} == {label: len(e) for label, e in read.items()}
    assert {label: count.holdout for label, count in counts.items()} == {
        label: sum(entry.holdout for entry in entries) for label, entries in read.items()
    }
    total = store.pending.total()
    assert total.examples == sum(map(len, read.values()))
    sizes = {
        (label, position.decode()): len(fields[b"e"])
        for label in counts
        for position, fields in client.xrange(keys.pending(label))
    }
    assert total.bytes == sum(sizes.values())
    in_review = store.review.groups()
    assert store.review.total() == sum(group.examples for group in in_review)
    owed: dict[str, int] = {}
    for group in in_review:
        owed[group.principal] = owed.get(group.principal, 0) + group.bytes
    for label, entries in read.items():
        for entry in entries:
            principal = entry.example.principal
            owed[principal] = owed.get(principal, 0) + sizes[label, entry.position]
    by_label = {label.decode(): json.loads(owned) for label, owned in client.hgetall(keys.pending_owners).items()}
    for label, entries in read.items():
        own: dict[str, int] = {}
        for entry in entries:
            own[entry.example.principal] = own.get(entry.example.principal, 0) + sizes[label, entry.position]
        assert by_label.pop(label, {}) == own
    assert not any(any(owned.values()) for owned in by_label.values())
    counted = client.hgetall(keys.pending_principals)
    assert {name.decode(): int(size) for name, size in counted.items()} == owed
    kept = [record for label in store.memory.labels() for record in client.lrange(keys.exemplars(label), 0, -1)]
    assert store.memory.exemplar_bytes() == sum(map(len, kept))
    holdout = sum(client.llen(keys.holdout(label)) for label in store.memory.labels())
    wanted = MemoryTotal(exemplars=len(kept), exemplar_bytes=sum(map(len, kept)), holdout=holdout)
    assert store.memory.total() == wanted
