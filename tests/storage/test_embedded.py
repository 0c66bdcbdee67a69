"""The embedded store: a process that starts, is guarded, and ends."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from accrete_storage.config import HoldoutConfig, StoreConfig
from accrete_storage.embedded import server as embedded
from accrete_storage.embedded.server import EmbeddedStore, socket_path, socket_url
from accrete_storage.errors import DataDirInUse, EngineMismatch, StoreUnavailable
from accrete_storage.examples.example import Example
from accrete_storage.examples.review import Selection
from accrete_storage.store import Store
from benchmarks.waiting import until

from .conftest import example, lease

pytestmark = pytest.mark.integration


def test_it_starts_answers_and_ends_without_a_trace(tmp_path: Path):
    server = EmbeddedStore(tmp_path, StoreConfig())
    server.start()
    pid = server.pid
    store = Store.connect(StoreConfig(), HoldoutConfig(), data_dir=tmp_path)
    assert store.info().engine == "valkey"
    store.close()
    server.stop()
    assert not server.alive()
    assert not socket_path(tmp_path).exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid or 0, 0)


def test_the_data_directory_belongs_to_one(tmp_path: Path):
    server = EmbeddedStore(tmp_path, StoreConfig())
    server.start()
    try:
        with pytest.raises(DataDirInUse, match=str(tmp_path)):
            EmbeddedStore(tmp_path, StoreConfig()).start()
        assert server.alive()
    finally:
        server.stop()
    again = EmbeddedStore(tmp_path, StoreConfig())
    again.start()
    again.stop()


@pytest.mark.parametrize("written", [{"engine": "redis", "version": "7.0.15"}, {"engine": "valkey", "version": "99.0"}])
def test_data_of_another_engine_or_a_newer_version_is_refused_by_name(tmp_path: Path, written: dict[str, str]):
    (tmp_path / "engine.json").write_text(json.dumps(written))
    with pytest.raises(EngineMismatch, match=f"{written['engine']} {written['version']}"):
        EmbeddedStore(tmp_path, StoreConfig()).start()
    assert json.loads((tmp_path / "engine.json").read_text()) == written


def test_data_of_an_older_version_is_taken_over(tmp_path: Path):
    (tmp_path / "engine.json").write_text(json.dumps({"engine": "valkey", "version": "9.0.0"}))
    server = EmbeddedStore(tmp_path, StoreConfig())
    server.start()
    server.stop()
    assert json.loads((tmp_path / "engine.json").read_text())["version"] != "9.0.0"


def test_a_long_path_is_no_obstacle(tmp_path: Path):
    folder = tmp_path / ("a" * 60) / ("b" * 60)
    folder.mkdir(parents=True)
    server = EmbeddedStore(folder, StoreConfig())
    server.start()
    try:
        store = Store.connect(StoreConfig(), HoldoutConfig(), data_dir=folder)
        store.pending.add([example("a", 1)])
        store.close()
    finally:
        server.stop()


def test_half_a_record_at_the_end_of_the_file_is_passed_over(tmp_path: Path):
    server = EmbeddedStore(tmp_path, StoreConfig())
    server.start()
    store = Store.connect(StoreConfig(), HoldoutConfig(), data_dir=tmp_path)
    store.pending.add([example("a", 1)])
    store.close()
    server.stop()
    (newest,) = (tmp_path / "store" / "appendonlydir").glob("*.incr.aof")
    with newest.open("ab") as file:
        file.write(b"*3\r\n$3\r\nSET\r\n$1\r\nx")
    server = EmbeddedStore(tmp_path, StoreConfig())
    server.start()
    try:
        store = Store.connect(StoreConfig(), HoldoutConfig(), data_dir=tmp_path)
        assert store.pending.counts()["a"].examples == 1
        store.close()
    finally:
        server.stop()


def test_a_damaged_file_is_refused_with_the_servers_own_words(tmp_path: Path):
    server = EmbeddedStore(tmp_path, StoreConfig())
    server.start()
    server.stop()
    (tmp_path / "store" / "appendonlydir" / "appendonly.aof.manifest").write_text("nonsense\n")
    server = EmbeddedStore(tmp_path, StoreConfig())
    with pytest.raises(StoreUnavailable, match="did not start"):
        server.start()
    server.stop()


ODD = [
    "a#b",
    "a?b",
    "a%20b",
    "a\tb",
    'a"b',
    "a'b",
    "a\\b",
    "a\nb",
    "a b",
    "a[b]*",
    "früh",
    "a@b:c",
    "a" * 90 + "/" + "b" * 90,
]


@pytest.mark.parametrize("name", ODD)
def test_any_name_of_a_data_directory_is_one(tmp_path: Path, name: str):
    folder = tmp_path / name
    server = EmbeddedStore(folder, StoreConfig())
    server.start()
    try:
        assert socket_path(folder).is_socket()
        assert (folder / "store" / "appendonlydir").is_dir()
        for config in (StoreConfig(), StoreConfig(url=socket_url(folder))):
            store = Store.connect(config, HoldoutConfig(), data_dir=folder)
            store.pending.add([example("a", 1)])
            assert store.pending.counts()["a"].examples == 1
            store.close()
    finally:
        server.stop()
    assert [path.name for path in tmp_path.iterdir()] == [Path(name).parts[0]]


def kept(folder: Path, settle: Callable[[Path], object]) -> EmbeddedStore:
    """A stopped server with one acknowledged example, whose last file `settle` has changed."""
    server = EmbeddedStore(folder, StoreConfig())
    server.start()
    store = Store.connect(StoreConfig(), HoldoutConfig(), data_dir=folder)
    store.pending.add([example("a", 1)])
    store.close()
    server.stop()
    (newest,) = (folder / "store" / "appendonlydir").glob("*.incr.aof")
    settle(newest)
    return EmbeddedStore(folder, StoreConfig())


def append(data: bytes) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with path.open("ab") as file:
            file.write(data)

    return change


@pytest.mark.parametrize(
    "tail",
    [
        bytes(1),
        bytes(4096),
        bytes(3 << 20),
        b"*3\r\n$3\r\nSET\r\n$1\r\nx" + bytes(4096),
        b"*1\r\n$99\r\n" + bytes(4096),
    ],
    ids=["one zero", "a block", "megabytes", "half a record and zeros", "a record of zeros that is cut"],
)
def test_zeros_behind_the_last_record_are_what_a_loss_of_power_left(tmp_path: Path, tail: bytes):
    server = kept(tmp_path, append(tail))
    for _ in range(2):  # what was cut off is gone for the next start, too
        server.start()
        try:
            store = Store.connect(StoreConfig(), HoldoutConfig(), data_dir=tmp_path)
            assert store.pending.counts()["a"].examples == 1
            store.close()
        finally:
            server.stop()


def test_a_hole_before_records_is_named_and_nothing_is_cut(tmp_path: Path):
    server = kept(tmp_path, append(bytes(4096) + b"*1\r\n$4\r\nPING\r\n"))
    (newest,) = (tmp_path / "store" / "appendonlydir").glob("*.incr.aof")
    before = newest.read_bytes()
    whole = len(before) - 4096 - 14
    with pytest.raises(
        StoreUnavailable, match=rf"incr.aof is damaged at byte {whole} of \d+.*accrete restore"
    ) as refused:
        server.start()
    assert "check-aof" not in str(refused.value)
    assert newest.read_bytes() == before


@pytest.mark.parametrize("content", [b"", bytes(64)], ids=["empty", "zeros"])
def test_a_manifest_that_was_lost_is_made_anew_where_the_files_leave_no_doubt(tmp_path: Path, content: bytes):
    server = kept(tmp_path, lambda newest: (newest.parent / "appendonly.aof.manifest").write_bytes(content))
    server.start()
    try:
        store = Store.connect(StoreConfig(), HoldoutConfig(), data_dir=tmp_path)
        assert store.pending.counts()["a"].examples == 1
        store.close()
    finally:
        server.stop()


@pytest.mark.parametrize("content", [b"", bytes(64), b"{", b"[]", b"null", b'{"engine": "val'])
def test_a_record_of_the_engine_that_was_lost_is_made_anew(tmp_path: Path, content: bytes):
    (tmp_path / "engine.json").write_bytes(content)
    server = EmbeddedStore(tmp_path, StoreConfig())
    server.start()
    server.stop()
    assert json.loads((tmp_path / "engine.json").read_text())["engine"] == "valkey"


def test_a_server_that_loads_is_waited_for_and_says_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    word = b"x" * 1000
    record = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n%s\r\n" % (len(word), word)
    server = kept(tmp_path, append(record * 100_000))
    hours_s = 0.0
    monkeypatch.setattr(
        embedded, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + hours_s, sleep=time.sleep)
    )
    ask = embedded.Loading.tell

    def tell(self: embedded.Loading, client: Any) -> None:
        nonlocal hours_s
        ask(self, client)
        told.append(self.ended)
        hours_s += 3600.0  # it loads for hours

    told: list[str] = []
    monkeypatch.setattr(embedded.Loading, "tell", tell)
    with caplog.at_level(logging.INFO):
        server.start()
    server.stop()
    assert "store.loading" in caplog.text
    assert re.fullmatch(r"ended while it was loading, after \d+ of 1\d{8} bytes", told[-1])


def test_a_server_that_outlives_its_starter_keeps_the_data_directory_until_it_ends(tmp_path: Path):
    code = (
        "import os, pathlib, signal, sys; from accrete_storage.config import StoreConfig;"
        " from accrete_storage.embedded.server import EmbeddedStore;"
        " server = EmbeddedStore(pathlib.Path(sys.argv[1]), StoreConfig()); server.start();"
        " os.kill(server.pid, signal.SIGSTOP); print(server.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    started = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True, check=False
    )
    stopped = int(started.stdout)
    successor = EmbeddedStore(tmp_path, StoreConfig())
    try:
        with pytest.raises(DataDirInUse):
            successor.start()
    finally:
        os.kill(stopped, signal.SIGCONT)
    successor.start()
    assert successor.pid != stopped
    successor.stop()


def test_it_ends_with_the_process_that_started_it(tmp_path: Path):
    code = (
        "import pathlib, sys, time; from accrete_storage.config import StoreConfig;"
        " from accrete_storage.embedded.server import EmbeddedStore;"
        " server = EmbeddedStore(pathlib.Path(sys.argv[1]), StoreConfig()); server.start();"
        " print(server.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.kill()
    until(lambda: not Path(f"/proc/{pid}").exists(), "the store's end")


def test_what_an_operator_drops_leaves_no_bytes(tmp_path: Path):
    server = EmbeddedStore(tmp_path, StoreConfig())
    server.start()
    try:
        store = Store.connect(StoreConfig(), HoldoutConfig(), data_dir=tmp_path)
        store.pending.add([taught := noisy("held", 0), doubted := noisy("reviewed", 1)])
        mine = lease(store)
        store.quarantine.add(mine.epoch, {"held": 1}, {"reason": "it broke", "attempt": 3})
        store.review.set_aside(mine.epoch, "reviewed", [(store.pending.read("reviewed")[0], "burst")])
        assert in_files(tmp_path, taught) and in_files(tmp_path, doubted)  # noqa: PT018
        store.quarantine.drop("held")
        until_gone(tmp_path, taught)
        store.review.drop(Selection(label="reviewed"))
        until_gone(tmp_path, doubted)
        store.close()
    finally:
        server.stop()


def noisy(label: str, seed: int) -> Example:
    """Noise cannot be compressed: its bytes lie in the store's files as they are."""
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 16), dtype=np.uint8)
    return Example(id=label, label=label, content=pixels)


def in_files(folder: Path, one: Example) -> bool:
    return any(one.tensor.tobytes() in _read(log) for log in (folder / "store" / "appendonlydir").iterdir())


def _read(log: Path) -> bytes:
    try:
        return log.read_bytes()
    except FileNotFoundError:  # the store has put another in its place since it was listed
        return b""


def until_gone(folder: Path, one: Example) -> None:
    until(lambda: not in_files(folder, one), "files without its bytes")
