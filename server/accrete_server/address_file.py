"""Where a running server listens, in `server.json`, for commands that are given only the data directory."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

from accrete_kit.atomic_file import write_json
from accrete_kit.file_lock import AlreadyLocked, FileLock

NAME = "server.json"

_log = logging.getLogger(__name__)


class AddressFile:
    """The file in the data directory that names the server's addresses and its process.

    Of several servers that share a data directory it names the first, which has the lock until it ends.
    """

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / NAME
        self._lock: FileLock | None = None

    def write(self, *, address: str, metrics: str) -> None:
        """Write the file, unless it is another server's that runs.

        Args:
            address: of gRPC, "HOST:PORT".
            metrics: of `/metrics`, "HOST:PORT".

        Raises:
            OSError: it cannot be written.
        """
        try:
            self._lock = FileLock(self._path.with_suffix(".lock"))
        except AlreadyLocked:
            _log.info("address_file.another_servers", extra={"file": NAME})
            return
        write_json(self._path, {"address": address, "metrics": metrics, "pid": os.getpid()})

    def remove(self) -> None:
        """Remove the file if it is this process's. A file that cannot be removed is logged."""
        if self._lock is None:
            return
        try:
            if json.loads(self._path.read_text("utf-8"))["pid"] == os.getpid():
                self._path.unlink()
        except (OSError, ValueError, KeyError) as error:
            _log.warning("address_file.not_removed", extra={"reason": str(error)})
        self._lock.release()
