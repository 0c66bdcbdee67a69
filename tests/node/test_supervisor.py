"""The supervisor brings back what dies, and leaves nothing running."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from accrete_node.supervisor import CannotStart, Child, Supervisor
from accrete_storage.config import StoreConfig
from accrete_storage.embedded.server import EmbeddedStore
from benchmarks.waiting import until

pytestmark = pytest.mark.integration

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time, pathlib, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    " pathlib.Path(sys.argv[1]).touch(); time.sleep(600)",
]


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def back(supervisor: Supervisor, child: Child) -> bool:
    supervisor.look()
    return not child.dead


def store_back(supervisor: Supervisor, store: EmbeddedStore) -> bool:
    supervisor.look()
    return store.alive()


def test_a_killed_child_is_started_again():
    child = Child("one", SLEEP)
    supervisor = Supervisor(None, [child])
    supervisor.start()
    try:
        first = supervisor.pids["one"]
        os.kill(first, signal.SIGKILL)

        until(lambda: back(supervisor, child) and supervisor.pids["one"] != first)
        assert running(supervisor.pids["one"])
    finally:
        supervisor.end()


def test_children_share_a_session_so_that_priorities_count_among_them_but_not_the_terminal_s_signals():
    supervisor = Supervisor(None, [Child("one", SLEEP), Child("two", SLEEP)])
    supervisor.start()
    try:
        pids = supervisor.pids.values()
        assert {os.getsid(pid) for pid in pids} == {os.getsid(0)}
        assert len({os.getpgid(0), *(os.getpgid(pid) for pid in pids)}) == 3
    finally:
        supervisor.end()


def test_a_child_that_keeps_dying_is_started_ever_less_often():
    child = Child("one", [sys.executable, "-c", "raise SystemExit(1)"])
    supervisor = Supervisor(None, [child])
    supervisor.start()
    failures = []
    try:
        until(lambda: child.status() is not None)
        for _ in range(2):
            supervisor.look()
            failures.append(child.backoff.failures)
            until(lambda: back(supervisor, child))
            until(lambda: child.status() is not None)
    finally:
        supervisor.end()
    assert failures == [1, 2]


def test_a_child_whose_settings_cannot_be_used_ends_everything():
    supervisor = Supervisor(None, [Child("one", [sys.executable, "-c", "raise SystemExit(2)"])])
    supervisor.start()
    try:
        with pytest.raises(CannotStart, match="one"):
            supervisor.run(until=lambda: False)
    finally:
        supervisor.end()


def test_a_child_that_has_run_is_tried_again_whatever_it_says_at_its_next_start(tmp_path: Path):
    code = (
        "import pathlib, sys, time; once = pathlib.Path(sys.argv[1]);"
        " sys.exit(2) if once.exists() else once.touch() or time.sleep(600)"
    )
    child = Child("one", [sys.executable, "-c", code, str(tmp_path / "once")])
    supervisor = Supervisor(None, [child])
    supervisor.start()
    try:
        until((tmp_path / "once").exists)
        os.kill(supervisor.pids["one"], signal.SIGKILL)
        until(lambda: back(supervisor, child) and child.starts == 3)
        (tmp_path / "once").unlink()
        until(lambda: back(supervisor, child) and (tmp_path / "once").exists())
        assert running(supervisor.pids["one"])
    finally:
        supervisor.end()


def test_a_store_that_cannot_come_back_at_once_is_tried_again_and_the_others_go_on(tmp_path: Path):
    store = EmbeddedStore(tmp_path, StoreConfig())
    child = Child("one", SLEEP)
    supervisor = Supervisor(store, [child])
    supervisor.start()
    try:
        first = supervisor.pids["store"]
        # What it must write before it starts cannot be written.
        log = tmp_path / "store" / "valkey.log"
        log.unlink()
        log.mkdir()
        os.kill(first, signal.SIGKILL)
        until(lambda: not running(first))
        for _ in range(30):
            supervisor.look()
            time.sleep(0.02)
        assert running(supervisor.pids["one"])
        log.rmdir()
        until(lambda: store_back(supervisor, store))
        assert supervisor.pids["store"] != first
    finally:
        supervisor.end()
    assert not store.alive()


def test_ending_stops_children_that_listen_and_those_that_do_not(tmp_path: Path):
    ready = tmp_path / "ready"
    children = [Child("one", SLEEP), Child("two", [*STUBBORN, str(ready)])]
    supervisor = Supervisor(None, children, end_s=1.0)
    supervisor.start()
    until(ready.exists)
    pids = supervisor.pids.values()
    supervisor.end()
    assert not any(running(pid) for pid in pids)


def test_children_end_when_the_supervisor_is_killed(tmp_path: Path):
    code = (
        "import sys; from accrete_node.supervisor import Child, Supervisor;"
        f" supervisor = Supervisor(None, [Child('one', {SLEEP!r})]); supervisor.start();"
        " print(supervisor.pids['one'], flush=True); supervisor.run(until=lambda: False)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        try:
            assert running(child)
            process.kill()
            process.wait()
            until(lambda: not running(child))
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
