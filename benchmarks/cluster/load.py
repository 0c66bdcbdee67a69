"""A steady load of predictions and teaching, with the ledger of what was acknowledged."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
from numpy.typing import NDArray

from accrete import Client
from benchmarks.nemesis.callers import Answers, Example, ask, write
from benchmarks.nemesis.ledger import Ledger
from benchmarks.node import side_by_side

LABELS = 10
_WRITERS = 2
_READERS = 2
_PAUSE_S = 0.5
"""Of a writer between two batches."""
_READER_PAUSE_S = 0.05


class Load:
    """What callers do, and what they were told."""

    def __init__(self, connect: Callable[[], Client], ledger: Ledger, *, dimensions: int, seed: int, run: str) -> None:
        """Do nothing yet.

        Args:
            connect: returns a new client.
            ledger: of all that is taught.
            dimensions: of an embedding.
            seed: of what is taught.
            run: is in the ids, which are new in each run.
        """
        self.answers = Answers()
        self.ledger = ledger
        self._connect = connect
        self._dimensions = dimensions
        self._seed = seed
        self._run = run
        self._centres = np.random.default_rng(0).normal(0, 3, (LABELS, dimensions)).astype(np.float32)

    @property
    def image(self) -> NDArray[np.float32]:
        """What readers ask about."""
        centre: NDArray[np.float32] = self._centres[0]
        return centre

    @contextmanager
    def steady(self) -> Iterator[None]:
        """Have it while the block runs. The writers' last batches are acknowledged when it ends."""
        writers = [
            partial(write, self._connect, self._batches(number), self.ledger, self.answers, pause_s=_PAUSE_S)
            for number in range(_WRITERS)
        ]
        readers: list[Callable[[threading.Event], None]] = [
            partial(ask, self._connect, self._centres[number], self.answers, pause_s=_READER_PAUSE_S)
            for number in range(_READERS)
        ]
        with side_by_side(*writers, *readers):
            yield

    def _batches(self, writer: int) -> Iterator[list[Example]]:
        generator, made = np.random.default_rng([self._seed, writer]), 0
        while True:
            batch: list[Example] = []
            for label in generator.integers(LABELS, size=int(generator.integers(1, 5))):
                made += 1
                vector = self._centres[label] + generator.normal(0, 1, self._dimensions).astype(np.float32)
                batch.append((f"class {label}", vector, f"{self._run}-{writer}-{made}"))
            yield batch
