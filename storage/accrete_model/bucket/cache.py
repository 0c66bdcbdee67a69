"""The folder of versions as a cache of those in a bucket: what is in use stays, the rest goes by age.

A process holds a shared lock on the folder of each version that it uses, so that no other process on the same folder
removes it; the kernel lets go of it with the process.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

from accrete_kit.file_lock import AlreadyLocked, FileLock

_HELD = 4
"""Folders that a process holds beside those of the live version: of versions that it took up last, with their
backbones, one of which it may be loading."""
_UNHELD_S = 60.0
"""Seconds after which a folder that is being filled must be held; far more than from making it to holding it."""
_WAIT_S = 60.0
_VERSION = re.compile(r"v\d{6,}")
LOCK_FILE = "versions.lock"
"""Beside the folder of versions."""
_FETCHING = ".fetching-"
_REMOVED = ".removed-"
FETCHED_FILE = "fetched"
"""In the folder of a backbone that came from the bucket. One that was put there by the learner stays until it says."""

_log = logging.getLogger(__name__)


class Cache:
    """Bounds the bytes of a folder of versions and of the backbones beside it. For any thread."""

    def __init__(self, versions: Path, backbones: Path, limit: int) -> None:
        self._versions = versions
        self._backbones = backbones
        self._limit = limit
        self._lock = threading.Lock()
        self._held: dict[str, int] = {}
        """Descriptors by the name of the folder, the one taken up last at the end."""
        self._live: frozenset[str] = frozenset()

    def hold(self, folder: Path) -> bool:
        """Keep a version's folder from being removed, as one of the last that were taken up. False: it is not there."""
        descriptor = _locked(folder, fcntl.LOCK_SH)
        if descriptor is None:
            return False
        with suppress(OSError):  # another user's, who keeps it as young
            os.utime(folder)
        with self._lock:
            if folder.name in self._held:
                os.close(self._held.pop(folder.name))
            for name in [name for name in self._held if name not in self._live][:-_HELD]:
                os.close(self._held.pop(name))
            self._held[folder.name] = descriptor
        return True

    def use(self, *folders: Path) -> None:
        """Keep these folders, of the live version and its backbone, until it is another's turn."""
        self._live = frozenset(folder.name for folder in folders)
        for folder in folders:
            self.hold(folder)

    def let_go(self, folder: Path) -> None:
        """Hold a folder no longer."""
        with self._lock:
            if folder.name in self._held:
                os.close(self._held.pop(folder.name))

    def incoming(self, name: str) -> Path:
        """Return a new folder beside the versions, to be held while it is filled, and then let go."""
        self._versions.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{_FETCHING}{name}-", dir=self._versions))
        folder.chmod(0o755)  # a server may run as another user; a temporary folder is its maker's alone
        return folder

    @contextmanager
    def one_at_a_time(self) -> Iterator[None]:
        """Wait for whoever fetches into this folder, lest together they exceed the bound or fetch the same.

        Not for long: one that was stopped, or that a bucket keeps waiting, keeps no other from trying.
        """
        self._versions.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            try:
                stack.enter_context(FileLock(self._versions.with_name(LOCK_FILE), timeout_s=_WAIT_S))
            except (AlreadyLocked, OSError) as error:  # a file system without locks, too
                _log.warning("cache.not_locked", extra={"reason": str(error)})
            yield

    def size(self) -> int:
        """Return the bytes of all that is in it."""
        folders = [*self._versions.glob("v*"), *self._versions.glob(f"{_FETCHING}*"), *self._backbones.glob("*")]
        return sum(_bytes(path) for path in folders)

    def place(self, incoming: Path, name: str, is_whole: Callable[[], bool]) -> None:
        """Rename a fetched folder, unless a faster process has put a whole one there.

        Raises:
            OSError: what is there cannot be removed.
        """
        with self._lock:
            folder = self._versions / name
            for _ in range(3):
                try:
                    incoming.rename(folder)
                    return
                except OSError:
                    if not folder.exists():
                        raise
                if is_whole():
                    shutil.rmtree(incoming, ignore_errors=True)
                    return
                self._remove(folder)
            raise OSError(f"{folder.name}: a damaged one is in its place, and cannot be removed")

    def make_room(self, coming: int) -> bool:
        """Remove what was used longest ago until `coming` more bytes fit. False: what is in use leaves no such room."""
        if not self._versions.is_dir():
            return True
        for left in self._versions.glob(f"{_REMOVED}*"):  # by a process that was killed meanwhile
            shutil.rmtree(left, ignore_errors=True)
        for left in self._versions.glob(f"{_FETCHING}*"):
            if _age(left) < time.time() - _UNHELD_S:
                _if_free(left, partial(shutil.rmtree, ignore_errors=True))
        folders = [path for path in self._versions.iterdir() if _VERSION.fullmatch(path.name)]
        fetched = [path.parent for path in self._backbones.glob(f"*/{FETCHED_FILE}")]
        sizes = {path: _bytes(path) for path in (*folders, *fetched)}
        total = coming + sum(sizes.values())
        total += sum(_bytes(path) for path in self._backbones.glob("*") if path not in sizes)
        for path in sorted(sizes, key=_age):
            if total <= self._limit:
                return True
            if _if_free(path, self._remove):
                total -= sizes[path]
        return total <= self._limit

    def _remove(self, folder: Path) -> None:
        gone = folder.with_name(f"{_REMOVED}{folder.name}-{os.getpid()}")
        with suppress(FileNotFoundError):
            folder.rename(gone)  # nobody finds half of it
        shutil.rmtree(gone, ignore_errors=True)


def _locked(folder: Path, kind: int) -> int | None:
    """Return a descriptor with a lock on a folder, or None where it is not there or another has it."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        if os.stat(folder).st_ino == os.fstat(descriptor).st_ino:  # else it was removed or replaced meanwhile
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None


def _if_free(folder: Path, work: Callable[[Path], None]) -> bool:
    """Call `work` with a folder that nobody holds. False: somebody does."""
    descriptor = _locked(folder, fcntl.LOCK_EX)
    if descriptor is None:
        return False
    try:
        work(folder)
    finally:
        os.close(descriptor)
    return True


def _bytes(folder: Path) -> int:
    total = 0
    with suppress(OSError):
        for file in folder.iterdir():
            with suppress(OSError):
                total += file.stat().st_size
    return total


def _age(folder: Path) -> float:
    """Return when a folder was used last."""
    try:
        return folder.stat().st_mtime
    except OSError:
        return 0.0
