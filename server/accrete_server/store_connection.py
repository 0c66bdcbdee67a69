"""The connection to the store, which may come late, go, and come back."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from accrete_storage.errors import StorageError, StoreUnavailable
from accrete_storage.store import Store

_log = logging.getLogger(__name__)


class StoreConnection:
    """The store, once it has been connected to. From then on each call to the store fails or not for itself."""

    def __init__(self, connect: Callable[[], Store]) -> None:
        """Connect to nothing yet.

        Args:
            connect: returns a checked store, or raises StorageError.
        """
        self._connect = connect
        self._store: Store | None = None
        self._error: StorageError = StoreUnavailable("the store has not been reached yet")
        self._lock = threading.Lock()

    def store(self) -> Store:
        """Return the store.

        Raises:
            StorageError: the store has not been connected to yet; it is the error of the last try.
        """
        store = self._store
        if store is None:
            raise self._error
        return store

    def connect(self) -> Store:
        """Return the store, connecting to it now if that has not been done.

        Raises:
            StorageError: it cannot be connected to.
        """
        with self._lock:
            if self._store is None:
                try:
                    self._store = self._connect()
                except StorageError as error:
                    if str(error) != str(self._error):  # the same error each second is logged once
                        _log.warning("store.not_connected", extra={"reason": str(error)})
                    self._error = error
                    raise
            return self._store

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            if self._store is not None:
                self._store.close()
