"""Mean features of classes that no training step has learned yet, under one version."""

import struct
from dataclasses import dataclass

import numpy as np

from accrete_storage.database import Database, reachable
from accrete_storage.keys import Keys

_COUNT = struct.Struct("<I")
_EXPIRY_MS = 7 * 86_400_000
"""A version's prototypes are of no use once it is gone; the learner writes those of the live one anew."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Prototype:
    """A class's mean feature."""

    vector: np.ndarray
    """[d] float32."""
    count: int
    """Examples it is the mean of."""


class Prototypes:
    """Prototypes by version and label."""

    def __init__(self, database: Database, keys: Keys) -> None:
        self._database = database
        self._keys = keys

    def put(self, version: int, label: str, vector: np.ndarray, count: int) -> None:
        """Set a label's prototype under a version."""
        key = self._keys.prototypes(version)
        value = _COUNT.pack(count) + np.asarray(vector, dtype="<f4").tobytes()
        with self._database.transaction() as pipeline:
            pipeline.hset(key, label, value)
            pipeline.pexpire(key, _EXPIRY_MS)
            pipeline.execute()

    def all(self, version: int) -> dict[str, Prototype]:
        """Every prototype under a version."""
        with reachable():
            stored = self._database.client.hgetall(self._keys.prototypes(version))
        return {
            label.decode(): Prototype(
                vector=np.frombuffer(value, dtype="<f4", offset=_COUNT.size), count=_COUNT.unpack_from(value)[0]
            )
            for label, value in stored.items()
        }

    def drop(self, version: int, labels: list[str]) -> None:
        """Remove labels' prototypes under a version."""
        if labels:
            with reachable():
                self._database.client.hdel(self._keys.prototypes(version), *labels)
