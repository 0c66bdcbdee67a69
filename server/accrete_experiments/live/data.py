"""The images that a node is taught with and measured with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8] | Path


@dataclass(frozen=True, kw_only=True)
class Split:
    """Images and their labels, of the same length."""

    images: Sequence[Image]
    labels: Sequence[str]

    def of(self, classes: Sequence[str]) -> Split:
        """Return those of some classes."""
        wanted = frozenset(classes)
        kept = [index for index, label in enumerate(self.labels) if label in wanted]
        return Split(images=[self.images[at] for at in kept], labels=[self.labels[at] for at in kept])

    def shuffled(self, generator: np.random.Generator) -> Split:
        """Return them in another order."""
        order = generator.permutation(len(self.labels))
        return Split(images=[self.images[at] for at in order], labels=[self.labels[at] for at in order])


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Images to teach, images to measure with, and the classes in the order in which they come."""

    name: str
    train: Split
    test: Split
    classes: Sequence[str]
    flip: bool
    """Whether a mirror image means the same."""
