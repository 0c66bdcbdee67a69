"""Features of the examples that a closed form has learned, from which its head can be solved for again.

A commit writes them, and a deletion or forgetting removes them, so that what is left is exactly what may be learned.

Shapes: n examples of a label, d feature length.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from accrete_storage.errors import CorruptRecord
from accrete_storage.redis.database import Database, reachable
from accrete_storage.redis.keys import Keys

Kind = Literal["float16", "float32"]
"""How features are stored. float16 is for those of unit length, float32 for those of any size."""

_DTYPES: dict[Kind, np.dtype[Any]] = {"float16": np.dtype("<f2"), "float32": np.dtype("<f4")}


def rounded(features: NDArray[np.float32], kind: Kind) -> NDArray[np.float32]:
    """Return features [n, d] as they are read again once they were stored."""
    return features.astype(_DTYPES[kind]).astype(np.float32)


def pack_features(ids: Sequence[str], features: NDArray[np.float32], kind: Kind) -> dict[str, bytes]:
    """Return the bytes of each of the features [n, d] by id."""
    return {example_id: row.tobytes() for example_id, row in zip(ids, features.astype(_DTYPES[kind]), strict=True)}


class FeatureStore:
    """Features by label and id, all of one backbone. Only a step's commit and deletions write them."""

    def __init__(self, database: Database, keys: Keys) -> None:
        self._database = database
        self._keys = keys

    def backbone(self) -> str:
        """Return the digest of the backbone that they are of, "" while there are none."""
        with reachable():
            value: bytes | None = self._database.client.hget(self._keys.state, "features")
        return (value or b"").decode()

    def count(self, labels: Iterable[str]) -> int:
        """Return how many features the labels have together."""
        with reachable(), self._database.client.pipeline(transaction=False) as pipeline:
            for label in labels:
                pipeline.hlen(self._keys.features(label))
            return sum(pipeline.execute())

    def unseen_below(self) -> dict[str, int]:
        """Return by label the rank (`holdout_rank`) below which examples were not seen when the backbone was trained.

        Nothing is there of labels of which it saw none, and of a backbone that was never trained on examples.
        """
        with reachable():
            value: bytes | None = self._database.client.hget(self._keys.state, "unseen_below")
        found: dict[str, int] = json.loads(value or b"{}")
        return found

    def ids(self, label: str) -> set[str]:
        """Return the ids of a label's examples, without reading their features."""
        with reachable():
            names: list[bytes] = self._database.client.hkeys(self._keys.features(label))
        return {name.decode() for name in names}

    def nearest(self, label: str, feature: NDArray[np.float32]) -> list[str]:
        """Return the ids of a label's examples, the most alike first, by the cosine of their features.

        Args:
            label: whose examples.
            feature: [d], finite. Features of another length are of another backbone, and none is returned.
        """
        with reachable():
            stored: Mapping[bytes, bytes] = self._database.client.hgetall(self._keys.features(label))
        sizes = {len(value) // len(feature) for value in stored.values()}
        kinds = {dtype.itemsize: dtype for dtype in _DTYPES.values()}
        if len(sizes) != 1 or not kinds.keys() >= sizes or len(next(iter(stored.values()))) % len(feature):
            return []
        names = sorted(stored)
        rows = np.frombuffer(b"".join(stored[name] for name in names), kinds[sizes.pop()]).astype(np.float32)
        rows = rows.reshape(len(names), -1)
        alike = rows @ feature / np.maximum(np.linalg.norm(rows, axis=1), 1e-12)
        return [names[row].decode() for row in np.argsort(-alike, kind="stable")]

    def of(self, label: str, kind: Kind) -> tuple[list[str], NDArray[np.float32]]:
        """Return the ids of a label's examples, sorted, and their features [n, d]; [0, 0] where there are none.

        Raises:
            CorruptRecord: the features are of several lengths.
        """
        with reachable():
            stored: Mapping[bytes, bytes] = self._database.client.hgetall(self._keys.features(label))
        ids = sorted(name.decode() for name in stored)
        if not ids:
            return [], np.zeros((0, 0), np.float32)
        if len({len(value) for value in stored.values()}) > 1:
            raise CorruptRecord(f"the features of {label!r} are of several lengths")
        rows = np.frombuffer(b"".join(stored[name.encode()] for name in ids), _DTYPES[kind])
        return ids, rows.reshape(len(ids), -1).astype(np.float32)
