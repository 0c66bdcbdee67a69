"""Where a running server listens, in `server.json`, for commands that are given only the data directory."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

from accrete_kit.atomic_file import write_json

NAME = "server.json"

_log = logging.getLogger(__name__)


class AddressFile:
    """The file in the data directory that names the server's addresses and its process."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / NAME

    def write(self, *, address: str, metrics: str) -> None:
        """Write the file.

        Args:
            address: of gRPC, "HOST:PORT".
            metrics: of `/metrics`, "HOST:PORT".

        Raises:
            OSError: it cannot be written.
        """
        write_json(self._path, {"address": address, "metrics": metrics, "pid": os.getpid()})

    def remove(self) -> None:
        """Remove the file if it is still this process's. A file that cannot be removed is logged."""
        try:
            if json.loads(self._path.read_text("utf-8"))["pid"] == os.getpid():
                self._path.unlink()
        except (OSError, ValueError, KeyError) as error:
            _log.warning("address_file.not_removed", extra={"reason": str(error)})
