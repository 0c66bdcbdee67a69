"""Calls that wait in line are computed along with the one whose turn it is."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from accrete_model.config import EngineConfig
from accrete_model.loaded_version import load
from accrete_server.errors import CallerGone
from accrete_server.images import BadImage
from accrete_server.metrics.collectors import PredictMetrics
from accrete_server.metrics.statistics import Statistics
from accrete_server.predict.admission import Admission
from accrete_server.predict.batching import Batcher
from accrete_server.predict.computing import Predictor
from accrete_server.versions.slots import Slot, Slots, View
from tests.model.artifacts import Recipe, write_artifact
from tests.server.calls import TestCall
from tests.server.test_admission import until


class _Line:
    """A version whose engine waits until it is let go, and calls that come one after another meanwhile."""

    def __init__(self, loaded: Any) -> None:
        self.sizes: list[int] = []
        self.fails = False
        self.gate = threading.Event()
        self.admission = Admission(limit="queue", at_once=1, queue=8)
        self.outcomes: list[list[Any]] = []
        self._features = loaded.features
        slots, metrics = Slots(), PredictMetrics(CollectorRegistry(), Statistics())
        slots.put(View(slot=Slot(loaded), answers=loaded.answers()))
        self._predictor = Predictor(slots, self.admission, Batcher(slots, metrics, queue=8), metrics)
        loaded.features = self.compute

    def compute(self, batch: Any) -> Any:
        self.sizes.append(len(batch))
        assert self.gate.wait(10)
        if self.fails:
            raise RuntimeError("out of memory")
        return self._features(batch)

    def come(self, decode: Callable[[], Any], call: TestCall | None = None, images: int = 1) -> None:
        """One more call; returns once it is at work or in line."""
        outcome: list[Any] = []

        def run() -> None:
            try:
                outcome.append(self._predictor.run(decode, call or TestCall(), images))
            except Exception as problem:
                outcome.append(problem)

        self.outcomes.append(outcome)
        threading.Thread(target=run).start()
        until(lambda: self.sizes and self.admission.waiting == len(self.outcomes) - 1)

    def results(self) -> list[Any]:
        """Lets them all go; what each came to."""
        self.gate.set()
        until(lambda: all(self.outcomes))
        until(lambda: not self.admission.working)
        return [outcome[0] for outcome in self.outcomes]


@pytest.fixture
def loaded(tmp_path):
    return load(write_artifact(tmp_path, Recipe()), 1, EngineConfig(device="cpu"))


@pytest.fixture
def line(loaded):
    return _Line(loaded)


def _images(seed: int, count: int = 1) -> Callable[[], Any]:
    return lambda: np.random.default_rng(seed).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)


def test_a_turn_computes_those_who_wait_behind_it_and_each_gets_its_own(line, loaded):
    expected = [line._features(_images(seed)()) for seed in range(4)]
    for seed in range(4):
        line.come(_images(seed))
    results = line.results()
    assert line.sizes == [1, 3]
    for wanted, got in zip(expected, results, strict=True):
        np.testing.assert_allclose(got.features, wanted, rtol=1e-5)
        assert got.probabilities.shape == (1, 2)
        assert got.queue_s >= 0
        assert got.decode_s > 0


def test_a_call_of_many_images_has_a_turn_of_its_own_and_those_behind_it_wait_for_theirs(line):
    line.come(_images(0))
    line.come(_images(1))
    line.come(_images(2, 3), images=3)
    line.come(_images(3))
    line.results()
    assert line.sizes == [1, 1, 3, 1]


def test_an_image_that_cannot_be_used_fails_its_own_call_alone(line):
    def bad() -> Any:
        raise BadImage("damaged")

    for decode in (_images(0), _images(1), bad, _images(2)):
        line.come(decode)
    results = line.results()
    assert isinstance(results[2], BadImage)
    assert [type(result).__name__ for result in results] == ["Computed", "Computed", "BadImage", "Computed"]
    assert line.sizes == [1, 2]


def test_nothing_is_computed_for_a_caller_that_hangs_up_as_it_is_taken_along(line):
    call = TestCall()

    def hang_up() -> Any:
        call.hang_up()  # it is out of the line by now: the turn's own image is decoded first
        return _images(1)()

    line.come(_images(0))
    line.come(_images(9))
    line.come(hang_up)  # stands for a caller that goes while those before it are decoded
    line.come(_images(2), call)
    results = line.results()
    assert isinstance(results[3], CallerGone)
    assert line.sizes == [1, 2]


def test_a_failure_of_the_engine_reaches_all_and_the_next_turn_goes_on(line):
    for seed in range(3):
        line.come(_images(seed))
    line.fails = True
    assert [str(result) for result in line.results()] == ["out of memory"] * 3
    line.fails = False
    line.outcomes.clear()
    line.come(_images(0))
    assert line.results()[0].features.shape == (1, 6)
