"""Groups of images that look alike, by the features that they were answered from.

Shapes: n images, d feature length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from accrete_model.vectors import Floats, unit

ALIKE = 0.6
"""Part of the way from the mean cosine of two images to 1 from which on two are alike. Of a thousand photographs of 81
products, 72 % are then of the product that most of their group are of; at 0.5 54 %."""
MOST = 2000
"""Images that are compared: each with each takes a second there. Further ones are in no group."""

_FEW = 4


def groups(features: Mapping[str, NDArray[np.float16]], spaces: Mapping[str, str]) -> list[list[str]]:
    """Return the ids of images in groups, the largest first.

    The oldest image that is in none yet begins a group, in which those are that are nearest to it of all beginnings.

    Args:
        features: of the images, each [d]; ids that sort by age.
        spaces: what made each feature; of two there is no likeness.
    """
    found: list[list[str]] = []
    for space in sorted(set(spaces.values())):
        ids = sorted(item_id for item_id in features if spaces.get(item_id) == space)
        length = len(features[ids[0]]) if ids else 0
        ids = [item_id for item_id in ids if len(features[item_id]) == length]
        found += _grouped(ids, np.array([features[item_id] for item_id in ids], np.float32))
    return sorted(found, key=lambda group: (-len(group), group[0]))


def _grouped(ids: Sequence[str], features: Floats) -> list[list[str]]:
    if not ids:
        return []
    vectors = unit(features)
    alike = _alike(vectors)
    leaders, count = np.empty_like(vectors), 0
    for vector in vectors:
        if not count or float((leaders[:count] @ vector).max()) < alike:
            leaders[count] = vector
            count += 1
    nearest = (vectors @ leaders[:count].T).argmax(axis=1)
    grouped: list[list[str]] = [[] for _ in range(count)]
    for item_id, leader in zip(ids, nearest.tolist(), strict=True):
        grouped[leader].append(item_id)
    return [group for group in grouped if group]


def _alike(vectors: Floats) -> float:
    """Return the cosine from which two of unit vectors [n, d] are alike: part of the way from that of any two to 1."""
    count = len(vectors)
    if count < 2:
        return ALIKE
    total = vectors.sum(axis=0)
    common = (float(total @ total) - count) / (count * (count - 1))
    common *= count / (count + _FEW)  # of a few images it says little
    return common + ALIKE * (1 - common)
