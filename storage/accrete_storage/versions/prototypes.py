"""Mean features of classes that no training step has learned yet, under one version."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from accrete_storage.redis.database import Database, reachable
from accrete_storage.redis.keys import Keys

_COUNT = struct.Struct("<I")
_MARGIN = struct.Struct("<d")
_MARGIN_FIELD = ""
"""Field among the labels, none of which is empty, so that one write changes prototypes and margin together."""
_EXPIRY_MS = 7 * 86_400_000
"""A version's prototypes are of no use once it is gone; the learner writes those of the live one anew."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Prototype:
    """A class's mean feature."""

    vector: np.ndarray
    """[d] float32."""
    count: int
    """Examples of which it is the mean."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class StoredPrototypes:
    """All prototypes under a version."""

    by_label: dict[str, Prototype] = field(default_factory=dict)
    margin: float = 0.0
    """By how much a cosine to a prototype must exceed those to the version's own classes."""


class PrototypeStore:
    """Prototypes by version and label."""

    def __init__(self, database: Database, keys: Keys) -> None:
        self._database = database
        self._keys = keys

    def put(
        self, version: int, prototypes: Mapping[str, Prototype], margin: float, *, revision: int | None = None
    ) -> bool:
        """Set some labels' prototypes under a version, and the margin of all.

        Args:
            version: under which.
            prototypes: by label.
            margin: of all.
            revision: the store's, which they are of; None: whichever it is.

        Returns:
            False when the store has another revision by now, at which nothing is written: their examples may be
            deleted, and their labels forgotten or renamed.
        """
        keys = self._keys
        fields: list[str | bytes] = [_MARGIN_FIELD, _MARGIN.pack(margin)]
        for label, prototype in prototypes.items():
            vector = np.asarray(prototype.vector, dtype="<f4").tobytes()
            fields += (label, _COUNT.pack(prototype.count) + vector)
        arguments = ["" if revision is None else revision, _EXPIRY_MS, *fields]
        return bool(self._database.call("prototypes", [keys.state, keys.prototypes(version)], arguments))

    def all(self, version: int) -> StoredPrototypes:
        """Return every prototype under a version, sorted by label."""
        with reachable():
            stored = self._database.client.hgetall(self._keys.prototypes(version))
        margin = stored.pop(_MARGIN_FIELD.encode(), None)
        by_label = {
            label.decode(): Prototype(
                vector=np.frombuffer(value, dtype="<f4", offset=_COUNT.size), count=_COUNT.unpack_from(value)[0]
            )
            for label, value in sorted(stored.items())
        }
        return StoredPrototypes(by_label=by_label, margin=_MARGIN.unpack(margin)[0] if margin else 0.0)

    def drop(self, version: int, labels: list[str]) -> None:
        """Remove labels' prototypes under a version."""
        if labels:
            with reachable():
                self._database.client.hdel(self._keys.prototypes(version), *labels)
