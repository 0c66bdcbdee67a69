"""Bytes that are not on disk are not acknowledged: the order of write, sync and reply, as the kernel sees it.

A kill never tests this, since what a process has written stays in the page cache.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from accrete_storage.config import HoldoutConfig, StoreConfig
from accrete_storage.embedded.server import EmbeddedStore, socket_url
from accrete_storage.store import Store
from tests.learner_service.helpers import digits

_CALLS = "write,writev,pwrite64,sendto,sendmsg,fsync,fdatasync,sync_file_range,rename,renameat,renameat2"

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


@pytest.fixture
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EmbeddedStore, Path]]:
    folder = tmp_path_factory.mktemp("p")
    server = EmbeddedStore(folder, StoreConfig())
    server.start()
    yield server, folder
    server.stop()


@contextmanager
def connected(folder: Path) -> Iterator[Store]:
    store = Store.connect(StoreConfig(), HoldoutConfig(share=0.0), data_dir=folder)
    yield store
    store.close()


@contextmanager
def traced(pid: int, to: Path) -> Iterator[None]:
    """Records what a process asks of the kernel."""
    command = ["strace", "-f", "-y", "-s", "32", "-e", f"trace={_CALLS}", "-o", str(to), "-p", str(pid)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
        assert strace.stderr is not None
        said = strace.stderr.readline()
        if "attached" not in said:
            strace.wait()
            pytest.skip(f"strace may not attach here: {said.strip()}")
        yield
        strace.terminate()


def replies_before_sync(trace: str) -> tuple[int, int]:
    """How often the store answered while something it had written was not on disk, and how often it wrote."""
    dirty, early, writes = False, 0, 0
    for line in trace.splitlines():
        name, _, rest = line.partition(" ")[2].lstrip().partition("(")
        if "resumed" in line or "(" not in line:
            name, rest = line.partition("<... ")[2].partition(" ")[0], ".aof" if "fdatasync" in line else ""
        if name in ("write", "writev", "pwrite64") and ".aof>" in rest:
            dirty, writes = True, writes + 1
        elif name in ("fdatasync", "fsync") and ".aof" in rest and "unfinished" not in line:
            dirty = False
        elif name in ("write", "writev", "sendto", "sendmsg") and ("socket:" in rest or "UNIX" in rest):
            early += dirty
    return early, writes


def record_adds(server: EmbeddedStore, folder: Path, trace: Path, spoil: Callable[[redis.Redis], object]) -> str:
    assert server.pid is not None
    with connected(folder) as store, redis.Redis.from_url(socket_url(folder)) as client:
        store.pending.add(digits(0, 1))  # the connection is there and checked
        spoil(client)
        with traced(server.pid, trace):
            for one in digits(1, 20):
                store.pending.add([one])
    return trace.read_text()


@needs_strace
def test_the_store_answers_after_the_sync_of_what_it_wrote(embedded: tuple[EmbeddedStore, Path], tmp_path: Path):
    early, writes = replies_before_sync(record_adds(*embedded, tmp_path / "trace", lambda client: None))
    assert writes >= 20
    assert early == 0


@needs_strace
def test_a_store_that_syncs_once_a_second_is_seen_to_answer_before(
    embedded: tuple[EmbeddedStore, Path], tmp_path: Path
):
    def spoil(client: redis.Redis) -> object:
        return client.config_set("appendfsync", "everysec")

    early, writes = replies_before_sync(record_adds(*embedded, tmp_path / "trace", spoil))
    assert writes >= 20
    assert early > 10


def test_an_append_only_file_cut_at_any_byte_after_an_acknowledgement_holds_what_was_acknowledged(
    embedded: tuple[EmbeddedStore, Path], tmp_path_factory: pytest.TempPathFactory
):
    _, folder = embedded
    sent, sizes = digits(0, 8), []
    with connected(folder) as store:
        for one in sent:
            store.pending.add([one])
            sizes.append(_log(folder).stat().st_size)
    for acknowledged, beyond in ((3, 0), (5, 1), (6, (sizes[6] - sizes[5]) // 2), (7, sizes[7] - sizes[6] - 1)):
        copy = tmp_path_factory.mktemp("c")
        shutil.copytree(folder / "store", copy / "store", ignore=shutil.ignore_patterns("*.sock", "s", "*.pid"))
        with _log(copy).open("r+b") as log:
            log.truncate(sizes[acknowledged - 1] + beyond)
        server = EmbeddedStore(copy, StoreConfig())
        server.start()
        with connected(copy) as store:
            kept = [entry.example.id for entry in store.pending.read("digit 0")]
        server.stop()
        assert kept == [one.id for one in sent[:acknowledged]]


def _log(folder: Path) -> Path:
    (log,) = (folder / "store").rglob("*.incr.aof")
    return log


PUBLISH = """
import sys, pathlib
from accrete_model.artifact_store import ArtifactStore
from accrete_storage.versions.commit import Commit
from accrete_storage.config import HoldoutConfig, StoreConfig
from accrete_storage.store import Store
from tests.learner_service.helpers import record
folder = pathlib.Path(sys.argv[1])
store = Store.connect(StoreConfig(), HoldoutConfig(), data_dir=folder)
lease = store.acquire_lease("me")
digest = ArtifactStore(folder / "versions").publish(folder / "candidate", 1)
store.commit(Commit(epoch=lease.epoch, revision=0, step_id="s", record=record(1, digest=digest), consumed={},
                    per_class=1))
"""


@needs_strace
def test_a_versions_files_and_its_name_are_on_disk_before_the_commit(
    embedded: tuple[EmbeddedStore, Path], tmp_path: Path
):
    _, folder = embedded
    candidate = folder / "candidate"
    candidate.mkdir()
    for name in ("graph.onnx", "head.safetensors"):
        (candidate / name).write_bytes(b"weights")
    trace = tmp_path / "trace"
    strace = ["strace", "-f", "-y", "-s", "64", "-e", f"trace={_CALLS}", "-o", str(trace)]
    subprocess.run([*strace, sys.executable, "-c", PUBLISH, str(folder)], check=True, timeout=300)

    lines = trace.read_text().splitlines()

    def at(*parts: str) -> int:
        found = [number for number, line in enumerate(lines) if all(part in line for part in parts)]
        assert found, parts
        return found[-1]

    synced = [at("fsync(", f"candidate/{name}>) = 0") for name in ("graph.onnx", "head.safetensors", "manifest.json")]
    order = [
        at("write(", "candidate/manifest.json>"),
        synced[-1],
        at("fsync(", "/candidate>) = 0"),
        at("rename", "/candidate", "v000001"),
        at("fsync(", "/versions>) = 0"),
        at("sendto(", "EVALSHA"),
    ]
    assert order == sorted(order)
    assert max(synced) < order[2]
