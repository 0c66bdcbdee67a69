"""How a Predict call meets the engine: straight on its own thread on a CPU, through the batcher on a GPU.

Shapes: N images; d feature length; C classes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from accrete_engine.vectors import Floats
from accrete_server.admission import Admission, Call
from accrete_server.metrics import PredictMetrics
from accrete_server.slots import Slots, View


@dataclass(frozen=True, kw_only=True, slots=True)
class Computed:
    """What one call's images came to, and where the time went."""

    view: View
    features: Floats  # [N, d]
    probabilities: Floats  # [N, C]
    compute_s: float
    decode_s: float = 0.0
    queue_s: float = 0.0

    def part(self, first: int, last: int, *, queue_s: float) -> Computed:
        """Rows `first` to `last` of a batch."""
        return Computed(
            view=self.view,
            features=self.features[first:last],
            probabilities=self.probabilities[first:last],
            compute_s=self.compute_s,
            queue_s=queue_s,
        )


def compute(slots: Slots, batch: NDArray[Any], metrics: PredictMetrics) -> Computed:
    """Computes a batch [N, ...] by the version that is live now, and by no other. Raises NoModel."""
    started = time.perf_counter()
    view = slots.take()
    try:
        features = view.slot.loaded.features(batch)
        probabilities = view.answers(features)
    finally:
        slots.give_back(view)
    seconds = time.perf_counter() - started
    metrics.computed(view.version, len(batch), seconds)
    return Computed(view=view, features=features, probabilities=probabilities, compute_s=seconds)


class Batching(Protocol):
    """Computes one call's images together with others'."""

    def compute(self, batch: NDArray[Any], call: Call) -> Computed:
        """Features and probabilities of one call's images."""
        ...


class Predictor:
    """Admission, decoding and computing of a Predict call, in that order."""

    def __init__(self, slots: Slots, admission: Admission, batcher: Batching, metrics: PredictMetrics) -> None:
        self._slots = slots
        self._admission = admission
        self._batcher = batcher
        self._metrics = metrics

    def run(self, decode: Callable[[], NDArray[Any]], call: Call) -> Computed:
        """Decodes and computes once it is the call's turn. Decoding counts as work: it is most of what a photo costs.

        Raises what `decode` raises; LimitExceeded, DeadlinePassed, CallerGone, NoModel.
        """
        waited = self._admission.enter(call)
        began = time.perf_counter()
        try:
            batch = decode()
            decoded = time.perf_counter()
            view = self._slots.live
            gathers = view is not None and view.slot.loaded.on_gpu
            whole = None if gathers else compute(self._slots, batch, self._metrics)
        finally:
            self._admission.leave(time.perf_counter() - began)
        if whole is None:  # on a GPU the turn ends with decoding, so that the batcher has many calls to gather from
            whole = self._batcher.compute(batch, call)
        return Computed(
            view=whole.view,
            features=whole.features,
            probabilities=whole.probabilities,
            compute_s=whole.compute_s,
            decode_s=decoded - began,
            queue_s=waited + whole.queue_s,
        )
