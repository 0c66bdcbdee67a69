"""On a GPU, requests that have been decoded form batches."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from accrete_model.config import EngineConfig
from accrete_model.loaded_version import load
from accrete_server.errors import CallerGone, DeadlinePassed, LimitExceeded, ShuttingDown
from accrete_server.metrics.collectors import PredictMetrics
from accrete_server.metrics.statistics import Statistics
from accrete_server.predict.batcher import Batcher, Computed, Request
from accrete_server.versions.slots import Slot, Slots, View
from benchmarks.waiting import until
from tests.model.artifacts import Recipe, write_artifact
from tests.server.calls import TestCall


class _Gated:
    """A version whose engine waits until it is let go, and counts what it computed."""

    def __init__(self, loaded: Any) -> None:
        self.gate = threading.Event()
        self.sizes: list[int] = []
        self._features = loaded.features
        loaded.features = self._wait_and_compute

    def _wait_and_compute(self, batch: Any) -> Any:
        self.sizes.append(len(batch))
        assert self.gate.wait(300)
        return self._features(batch)


@pytest.fixture
def loaded(tmp_path):
    loaded = load(write_artifact(tmp_path / "v", Recipe()), 1, EngineConfig(device="cpu"))
    loaded.on_gpu = True  # what decides how requests are computed
    return loaded


@pytest.fixture
def slots(loaded):
    slots = Slots()
    slots.put(View(slot=Slot(loaded), classifier=loaded.classifier()))
    return slots


class _Batcher(Batcher):
    """One that tells each request's thread when it is finished."""

    def __init__(self, slots: Slots, queue: int = 8) -> None:
        metrics = PredictMetrics(CollectorRegistry(), Statistics())
        super().__init__(slots, metrics, self._note, queue=queue)
        self.finished: list[Request] = []

    def _note(self, requests: Sequence[Request]) -> None:
        self.finished += requests

    def result(self, batch: Any, call: TestCall | None = None) -> Computed:
        """What a request comes to, which has the batcher to itself or shares it."""
        request = Request(lambda: batch, call or TestCall(), len(batch))
        assert request.try_decode()
        self.submit([request])
        until(lambda: request in self.finished)
        return request.result()


@pytest.fixture
def batcher(slots):
    batcher = _Batcher(slots)
    yield batcher
    batcher.close()


def _images(count: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)


def _in_background(batcher: _Batcher, batch: Any, call: TestCall | None = None) -> list[Any]:
    outcome: list[Computed | Exception] = []

    def run() -> None:
        try:
            outcome.append(batcher.result(batch, call))
        except Exception as error:
            outcome.append(error)

    threading.Thread(target=run).start()
    return outcome


def test_requests_that_come_while_a_batch_computes_form_the_next_one(slots, batcher, loaded):
    expected = [loaded.features(_images(2, seed)) for seed in range(4)]
    gated = _Gated(loaded)
    outcomes = []
    for seed in range(4):
        outcomes.append(_in_background(batcher, _images(2, seed)))
        until(lambda: gated.sizes and batcher.waiting == max(0, len(outcomes) - 1))
    gated.gate.set()
    until(lambda: all(outcomes))
    assert gated.sizes == [2, 6]
    for wanted, (got,) in zip(expected, outcomes, strict=True):
        np.testing.assert_allclose(got.features, wanted, rtol=1e-5)
        assert got.probabilities.shape == (2, 2)
        assert got.queue_s >= 0


def test_a_batch_stays_within_what_the_engine_computes_at_once(slots, batcher, loaded):
    loaded.max_batch = 4
    gated = _Gated(loaded)
    outcomes = [_in_background(batcher, _images(1))]
    until(lambda: gated.sizes)
    for count in (3, 3, 1):
        outcomes.append(_in_background(batcher, _images(count)))
        until(lambda: batcher.waiting == len(outcomes) - 1)
    gated.gate.set()
    until(lambda: all(outcomes))
    assert gated.sizes == [1, 3, 4]


def test_a_full_line_refuses_at_once(slots, loaded):
    batcher = _Batcher(slots, queue=1)
    gated = _Gated(loaded)
    first = _in_background(batcher, _images(1))
    until(lambda: gated.sizes)
    second = _in_background(batcher, _images(1))
    until(lambda: batcher.waiting == 1)
    with pytest.raises(LimitExceeded, match="queue is 1"):
        batcher.result(_images(1))
    gated.gate.set()
    until(lambda: first and second)
    batcher.close()


def test_nobody_computes_for_a_caller_that_is_gone_or_out_of_time(slots, batcher, loaded):
    gated = _Gated(loaded)
    first = _in_background(batcher, _images(1))
    until(lambda: gated.sizes)
    gone, late = TestCall(), TestCall(timeout_s=0)
    outcomes = [_in_background(batcher, _images(1), gone), _in_background(batcher, _images(1), late)]
    until(lambda: batcher.waiting == 2)
    gone.hang_up()
    gated.gate.set()
    until(lambda: first and all(outcomes))
    assert isinstance(outcomes[0][0], CallerGone)
    assert isinstance(outcomes[1][0], DeadlinePassed)
    assert gated.sizes == [1]


def test_a_failure_reaches_every_caller_of_the_batch_and_the_next_batch_goes_on(slots, batcher, loaded):
    gated = _Gated(loaded)
    outcomes = [_in_background(batcher, _images(1))]
    until(lambda: gated.sizes)
    for waiting in (1, 2):
        outcomes.append(_in_background(batcher, np.zeros((1, 5, 5, 3), np.uint8)))  # not the model's shape
        until(lambda: batcher.waiting == waiting)  # noqa: B023
    gated.gate.set()
    until(lambda: all(outcomes))
    assert isinstance(outcomes[0][0], Computed)
    assert isinstance(outcomes[1][0], Exception)
    assert outcomes[1] == outcomes[2]
    assert batcher.result(_images(1)).features.shape == (1, 6)
    assert gated.sizes == [1, 2, 1]


def test_closing_finishes_what_is_in_line_and_refuses_what_comes_after(slots, loaded):
    batcher = _Batcher(slots)
    gated = _Gated(loaded)
    outcomes = [_in_background(batcher, _images(1))]
    until(lambda: gated.sizes)
    outcomes.append(_in_background(batcher, _images(1)))
    until(lambda: batcher.waiting == 1)
    closing = threading.Thread(target=batcher.close)
    closing.start()
    gated.gate.set()
    closing.join()
    until(lambda: all(outcomes))
    assert all(isinstance(outcome[0], Computed) for outcome in outcomes)
    with pytest.raises(ShuttingDown):
        batcher.result(_images(1))
