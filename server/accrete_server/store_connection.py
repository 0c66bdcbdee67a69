"""The connection to the store, which may come late, go, and come back."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from accrete_storage.errors import StorageError, StoreUnavailable
from accrete_storage.store import Store

_log = logging.getLogger(__name__)


class StoreLink:
    """The store, once it has been reached. Afterwards every call to it tells for itself whether it answers."""

    def __init__(self, connect: Callable[[], Store]) -> None:
        """`connect` makes a checked store, or raises StorageError."""
        self._connect = connect
        self._store: Store | None = None
        self._problem: StorageError = StoreUnavailable("the store has not been reached yet")
        self._lock = threading.Lock()

    def get(self) -> Store:
        """The store. Raises what kept it from being reached, as long as it has not been."""
        store = self._store
        if store is None:
            raise self._problem
        return store

    def reach(self) -> Store:
        """The store, connected to now if it has not been reached yet. Raises StorageError."""
        with self._lock:
            if self._store is None:
                try:
                    self._store = self._connect()
                except StorageError as problem:
                    self._note(problem)
                    raise
            return self._store

    def close(self) -> None:
        """Closes the connections."""
        with self._lock:
            if self._store is not None:
                self._store.close()

    def _note(self, problem: StorageError) -> None:
        if str(problem) != str(self._problem):
            _log.warning("store_not_reached", extra={"reason": str(problem)})
        self._problem = problem
