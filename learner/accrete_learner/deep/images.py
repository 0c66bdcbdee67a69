"""Examples of a deep step, decoded when a batch takes them: decoded all at once they would fill the memory.

Shapes: N images, H x W pixels, C channels.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accrete_learner.deep import job
from accrete_model import jpeg


@dataclass(frozen=True, kw_only=True)
class Images:
    """Images as they are stored."""

    data: NDArray[np.uint8]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    encoded: NDArray[np.bool_]
    shape: tuple[int, ...]
    """[H, W, C]."""

    @classmethod
    def of(cls, inputs: Mapping[str, NDArray[np.generic]], shape: tuple[int, ...]) -> "Images":
        """Return the images that a job's arrays hold. Raises ValueError when one is none."""
        ends = np.asarray(inputs[job.INPUT_ENDS], np.int64)
        return cls(
            data=np.asarray(inputs[job.INPUT_DATA], np.uint8),
            starts=np.concatenate([np.zeros(1, np.int64), ends[:-1]]),
            ends=ends,
            encoded=np.asarray(inputs[job.INPUT_ENCODED], bool),
            shape=shape,
        )

    def __len__(self) -> int:
        return len(self.ends)

    def batch(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return images [N, H, W, C] by their rows [N]. Raises OSError or ValueError when one cannot be decoded."""
        return np.stack([self._one(int(row)) for row in rows])

    def _one(self, row: int) -> NDArray[np.uint8]:
        stored = self.data[self.starts[row] : self.ends[row]]
        if self.encoded[row]:
            stored = jpeg.pixels(stored.tobytes())
        return stored.reshape(self.shape)
