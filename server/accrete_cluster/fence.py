"""Whether a controller that asks for something may still do so."""

from __future__ import annotations

from accrete_node.settings import Settings
from accrete_storage.store import Store


def is_over(settings: Settings, epoch: int) -> bool:
    """Return whether the controller that began with this epoch has a successor.

    Raises:
        StorageError: the store does not say.
    """
    store = Store.connect(settings.store, settings.holdout, data_dir=settings.data_dir)
    try:
        return store.clusters.is_over(epoch)
    finally:
        store.close()
