"""The interface of every engine, and the batch sizes at which they run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from accrete_model.vectors import Floats

CPU_BATCH = 16
"""Images computed at once on a CPU, where a longer batch is no faster per image and only takes more memory."""


class Engine(Protocol):
    """A backbone that runs. `run` may be called from several threads at once."""

    @property
    def name(self) -> str:
        """The library and device, as in "onnxruntime CPUExecutionProvider"."""
        ...

    @property
    def on_gpu(self) -> bool:
        """Whether batches of several requests are worth gathering."""
        ...

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """The sizes to warm before requests come, smallest first."""
        ...

    def run(self, batch: NDArray[Any]) -> Floats:
        """Return features [N, d] of a batch [N, *input shape] in the model's input type, for any N >= 1."""
        ...

    def close(self) -> None:
        """Free what it uses. No call of `run` may be under way or come after."""
        ...


def doubling(limit: int) -> tuple[int, ...]:
    """Return 1, 2, 4, ... and `limit`, to which batches are padded on a GPU, where each size is tuned apart."""
    sizes = [1]
    while sizes[-1] * 2 < limit:
        sizes.append(sizes[-1] * 2)
    return tuple(sizes) if limit == 1 else (*sizes, limit)


def run_in_parts(run: Callable[[NDArray[Any]], Floats], batch: NDArray[Any], limit: int) -> Floats:
    """Call `run` on parts of at most `limit` inputs, and return the joined results."""
    if len(batch) <= limit:
        return run(batch)
    return np.concatenate([run(batch[start : start + limit]) for start in range(0, len(batch), limit)])


def run_padded(run: Callable[[NDArray[Any]], Floats], batch: NDArray[Any], sizes: tuple[int, ...]) -> Floats:
    """Call `run` on `batch` padded with zeros to the next of `sizes`, and return the results without the padding's."""
    size = next(size for size in sizes if size >= len(batch))
    if size == len(batch):
        return run(batch)
    padded = np.zeros((size, *batch.shape[1:]), batch.dtype)
    padded[: len(batch)] = batch
    return run(padded)[: len(batch)]
