"""One store for many tests: each has a prefix of its own in it."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from accrete_storage.config import StoreConfig
from accrete_storage.embedded.server import EmbeddedStore, socket_url

_numbers = itertools.count()


class SharedStore:
    """An embedded store that nobody stops, kills or configures otherwise: a test that does so starts one of its own."""

    def __init__(self, folder: Path) -> None:
        """Do nothing yet; `start` does.

        Args:
            folder: Where the store keeps its files.
        """
        self.url = socket_url(folder)
        self._server = EmbeddedStore(folder, StoreConfig())

    def start(self) -> None:
        """Start the store, and return once it can be reached."""
        self._server.start()

    def stop(self) -> None:
        """End the store."""
        self._server.stop()

    def config(self, **settings: Any) -> StoreConfig:
        """Return a configuration with a prefix that nobody else has, and with further settings."""
        return StoreConfig(url=self.url, prefix=f"test{next(_numbers)}", **settings)
