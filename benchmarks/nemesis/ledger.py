"""What writers sent, and what they were told of it."""

from __future__ import annotations

import json
import threading
from pathlib import Path


class Ledger:
    """A file with a line before each sending and one after each acknowledgement. Safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        """`path` is made anew."""
        self._file = path.open("w")
        self._lock = threading.Lock()
        self.sent: dict[str, str] = {}
        """Label by id, of all that may have been stored."""
        self.acknowledged: set[str] = set()
        self.refused: dict[str, str] = {}
        """By id, why: such are never stored."""

    def sending(self, example_id: str, label: str) -> None:
        """To be called before an example leaves."""
        with self._lock:
            self.sent[example_id] = label
            self._write("sent", example_id)

    def acknowledge(self, example_id: str) -> None:
        """The server said that it is stored, or that it was stored before."""
        with self._lock:
            self.acknowledged.add(example_id)
            self._write("acknowledged", example_id)

    def refuse(self, example_id: str, reason: str) -> None:
        """The server said that it is not stored."""
        with self._lock:
            self.refused[example_id] = reason
            self._write("refused", example_id)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, what: str, example_id: str) -> None:
        self._file.write(json.dumps([what, example_id]) + "\n")
        self._file.flush()
