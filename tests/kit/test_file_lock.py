"""One holder at a time, among processes and within one."""

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from accrete_kit.file_lock import AlreadyLocked, FileLock


def test_a_second_holder_is_refused_until_the_first_releases(tmp_path: Path) -> None:
    first = FileLock(tmp_path / "lock")
    with pytest.raises(AlreadyLocked):
        FileLock(tmp_path / "lock")
    first.release()
    first.release()
    with FileLock(tmp_path / "lock"), pytest.raises(AlreadyLocked):
        FileLock(tmp_path / "lock", timeout_s=0.06)
    FileLock(tmp_path / "lock").release()


@pytest.mark.parametrize("timeout_s", [None, 10.0])
def test_it_waits_for_the_holder(tmp_path: Path, timeout_s: float | None) -> None:
    first = FileLock(tmp_path / "lock")
    threading.Timer(0.05, first.release).start()
    FileLock(tmp_path / "lock", timeout_s=timeout_s).release()


def test_a_child_that_inherits_it_holds_it_until_it_ends(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "lock")
    sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    child = subprocess.Popen(sleep, pass_fds=(lock.fileno(),))
    try:
        lock.release()
        with pytest.raises(AlreadyLocked):
            FileLock(tmp_path / "lock")
    finally:
        child.kill()
        child.wait()
    FileLock(tmp_path / "lock").release()


def test_a_child_that_does_not_inherit_it_does_not_hold_it(tmp_path: Path) -> None:
    with FileLock(tmp_path / "lock"):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        FileLock(tmp_path / "lock").release()
    finally:
        child.kill()
        child.wait()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_told_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)  # no such file system is at hand
    for timeout_s in (0.0, None):
        with pytest.raises(OSError, match="keeps no locks .* use a folder on a local disk") as told:
            FileLock(tmp_path / "lock", timeout_s=timeout_s)
        assert str(told.value).startswith(f"{tmp_path}: ")
