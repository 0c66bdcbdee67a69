"""Real scans of handwriting: scikit-learn's digits, 1,797 grey images of 8 x 8 pixels."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@functools.cache
def scans() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return all images, uint8 [1797, 8, 8, 1] of 0 to 255, and the digit on each, int64 [1797]."""
    library = find_spec("sklearn")
    if library is None or library.origin is None:
        raise ModuleNotFoundError("scikit-learn is missing, which has the digits")
    # What its `load_digits` reads, without two seconds of its imports: 64 pixels of 0 to 16 and the digit on each line.
    rows = np.loadtxt(Path(library.origin).parent / "datasets" / "data" / "digits.csv.gz", delimiter=",")
    images = (rows[:, :64].reshape(-1, 8, 8, 1) * (255 / 16)).round().astype(np.uint8)
    return images, rows[:, 64].astype(np.int64)


def scans_of(digits: Iterable[int], each: int, skip: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the same number of scans of each of some digits, one digit after the other.

    Args:
        digits: The digits, in the order in which they are wanted.
        each: How many scans of each.
        skip: How many of the first scans of each to leave out.

    Returns:
        Images, uint8 [n, 8, 8, 1], and the digit on each, int64 [n].
    """
    images, targets = scans()
    rows = [np.flatnonzero(targets == digit)[skip : skip + each] for digit in digits]
    chosen = np.concatenate(rows) if rows else np.zeros(0, np.int64)
    return images[chosen], targets[chosen]


def scans_by_label() -> dict[str, list[NDArray[np.uint8]]]:
    """Return all images by label, "0" to "9", each uint8 [8, 8]."""
    images, targets = scans()
    return {str(digit): list(images[targets == digit, ..., 0]) for digit in range(10)}
