"""Which examples judge a head, as a function of the set of examples alone."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from accrete_learner.analytic.statistics import Labels


def choose(ids: Sequence[str], labels: Labels, limit: int = 1000) -> NDArray[np.intp]:
    """Return the positions of at most `limit` examples, as many of each class as there is room for.

    Neither the order of the examples nor how they came matters: each has a rank within its class by the hash of its id,
    and the lowest ranks are taken. The result is in an order of the same kind, so a sum over it has the same rounding.

    Args:
        ids: of all examples, each once.
        labels: [N], their classes.
        limit: 0 or more.
    """
    hashes = np.array([int.from_bytes(blake2b(name.encode(), digest_size=8).digest()) for name in ids], dtype=np.uint64)
    by_class = np.lexsort((hashes, labels))
    ordered = labels[by_class]
    rank = np.arange(len(ordered)) - np.searchsorted(ordered, ordered)
    return by_class[np.lexsort((hashes[by_class], rank))][:limit]
