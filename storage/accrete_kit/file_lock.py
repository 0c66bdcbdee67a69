"""A lock that processes share by a file, and that the kernel frees when its holder dies."""

from __future__ import annotations

import errno
import fcntl
import time
from pathlib import Path
from types import TracebackType
from typing import Self

_RETRY_S = 0.05
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""What flock(2) says on file systems without locks, such as NFS or FUSE mounts."""


class AlreadyLocked(Exception):
    """Another process, or another `FileLock` of this one, has the lock."""


class FileLock:
    """An exclusive lock on a file, had from the making of this object to `release`, or to the end of its `with` block.

    A child that inherits `fileno()` has the lock as well: it is free once both have closed it or ended (flock(2)).
    """

    def __init__(self, path: Path, *, timeout_s: float | None = 0.0) -> None:
        """Take the lock; the file is made where it is missing, and stays when the lock is released.

        Args:
            path: of the file, in a folder that exists.
            timeout_s: seconds to wait for another holder; None waits as long as it takes.

        Raises:
            AlreadyLocked: when another holder has it.
            OSError: when the file cannot be opened, or its file system keeps no locks.
        """
        self._file = path.open("a")
        try:
            self._acquire(timeout_s)
        except OSError as error:
            self._file.close()
            if error.errno not in _NO_LOCKS:
                raise
            raise OSError(
                f"{path.parent}: its file system keeps no locks ({error.strerror}), without which two processes could "
                "write there at once; use a folder on a local disk, or mount it with locks (NFS: start its lock "
                "service, or mount with local_lock=flock where one machine alone uses it)"
            ) from error
        except BaseException:
            self._file.close()
            raise

    def _acquire(self, timeout_s: float | None) -> None:
        if timeout_s is None:
            fcntl.flock(self._file, fcntl.LOCK_EX)
            return
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError as error:
                if time.monotonic() >= deadline:
                    raise AlreadyLocked(f"{self._file.name} is locked") from error
            time.sleep(_RETRY_S)

    def fileno(self) -> int:
        """Return the descriptor that holds the lock, for a child to inherit."""
        return self._file.fileno()

    def release(self) -> None:
        """Give the lock up; once more does nothing."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
