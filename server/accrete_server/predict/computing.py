"""How a Predict call meets the engine: straight on its own thread on a CPU, through the batcher on a GPU.

Shapes: N images; d feature length; C classes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from accrete_model.vectors import Floats
from accrete_server.metrics.collectors import PredictMetrics
from accrete_server.predict.admission import Admission, Call, Waiter, check_still_wanted
from accrete_server.versions.slots import Slots, View


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


class _Task:
    """One call's images, which another call's turn may decode and compute with its own."""

    def __init__(self, decode: Callable[[], NDArray[Any]], call: Call) -> None:
        self.outcome: Computed | Exception | None = None
        self.is_along = False
        """Whether another call's turn does it, or has done it."""
        self._decode = decode
        self._call = call
        self._arrived = time.perf_counter()
        self._began = self._decoded = 0.0

    def read(self) -> NDArray[Any] | None:
        """Its images decoded; None, with the reason as its outcome, when they cannot be or nobody waits any more."""
        self._began = time.perf_counter()
        try:
            check_still_wanted(self._call)
            return self._decode()
        except Exception as problem:  # for its own caller alone
            self.outcome = problem
            return None
        finally:
            self._decoded = time.perf_counter()

    def done(self, whole: Computed, row: int) -> None:
        """Its outcome is a row of a batch."""
        part = whole.part(row, row + 1, queue_s=self._began - self._arrived)
        self.outcome = replace(part, decode_s=self._decoded - self._began)

    def result(self) -> Computed:
        """Its outcome; raises it when it is an error."""
        if isinstance(self.outcome, Computed):
            return self.outcome
        raise self.outcome or RuntimeError("the turn that was to do this ended before it had")


class Predictor:
    """Admission, decoding and computing of a Predict call, in that order.

    On a CPU, a turn also does what stands in line behind it when that is little. The engine gains nothing by it, but
    six threads that wake each other, each for a millisecond's work, cost more than one that does the work of all six.
    """

    def __init__(self, slots: Slots, admission: Admission, batcher: Batching, metrics: PredictMetrics) -> None:
        self._slots = slots
        self._admission = admission
        self._batcher = batcher
        self._metrics = metrics

    def run(self, decode: Callable[[], NDArray[Any]], call: Call, images: int = 1) -> Computed:
        """Decodes and computes so many images once it is the call's turn. Decoding counts as work: it is most of what a
        photo costs.

        Raises what `decode` raises; LimitExceeded, DeadlinePassed, CallerGone, NoModel.
        """
        task = _Task(decode, call) if images == 1 else None
        waited = self._admission.enter(call, task)
        if task is not None and task.is_along:
            return task.result()
        began = time.perf_counter()
        along: list[Waiter] = []
        try:
            batch = decode()
            decoded = time.perf_counter()
            view = self._slots.live
            gathers = view is not None and view.slot.loaded.on_gpu
            if task is not None and not gathers:
                along = self._admission.take_along()
            whole = None if gathers else self._compute(batch, along)
        finally:
            self._admission.leave(time.perf_counter() - began, 1 + len(along))
        if whole is None:  # on a GPU the turn ends with decoding, so that the batcher has many calls to gather from
            whole = self._batcher.compute(batch, call)
        return replace(whole, decode_s=decoded - began, queue_s=waited + whole.queue_s)

    def _compute(self, batch: NDArray[Any], along: Sequence[Waiter]) -> Computed:
        """The batch, and with it the tasks of those taken along, one image each."""
        if not along:
            return compute(self._slots, batch, self._metrics)
        try:
            tasks = [waiter.task for waiter in along if isinstance(waiter.task, _Task)]
            for task in tasks:
                task.is_along = True
            read = [(task, task.read()) for task in tasks]
            good = [(task, images) for task, images in read if images is not None]
            try:
                joined = np.concatenate([batch, *(images for _, images in good)])
                whole = compute(self._slots, joined, self._metrics)
            except Exception as problem:  # goes to every caller of the batch, each of which reports it
                for task, _ in good:
                    task.outcome = problem
                raise
            for row, (task, _) in enumerate(good, 1):
                task.done(whole, row)
            return whole.part(0, 1, queue_s=0.0)
        finally:
            for waiter in along:
                waiter.finish()
