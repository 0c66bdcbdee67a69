"""On a CPU, calls that wait in line are computed with the one whose turn it is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from accrete_model.config import EngineConfig
from accrete_model.loaded_version import load
from accrete_server.errors import CallerGone, InvalidInput
from accrete_server.images import BadImage
from accrete_server.metrics.collectors import PredictMetrics
from accrete_server.metrics.statistics import Statistics
from accrete_server.predict.admission import Admission
from accrete_server.predict.batcher import Batcher, Computed, Request
from accrete_server.predict.pipeline import Pipeline
from accrete_server.versions.slots import Slot, Slots, View
from benchmarks.waiting import until
from tests.model.artifacts import Recipe, write_artifact
from tests.server.calls import TestCall

Image = Callable[[], Any]
"""What is sent for an image: a function that returns it decoded, or raises."""


class _Query:
    """A call of a protocol that has no wire: what was computed is the response."""

    field, unknown_rate = "images", 0.0

    def __init__(self, images: list[Image]) -> None:
        self.started = time.perf_counter()
        self.images, self.count = images, len(images)

    def check_view(self, view: View | None) -> View:
        assert view is not None
        return view

    def content(self, index: int) -> bytes:
        return b""

    def decode(self, image: Image) -> Any:
        return image()

    def encode(self, computed: Computed, unknown: Any, false_alarm_rate: float) -> Computed:
        assert not unknown.any()
        return computed


class _Line:
    """A version whose engine waits until it is let go, and calls that come one after another meanwhile."""

    def __init__(self, loaded: Any) -> None:
        self.sizes: list[int] = []
        self.fails = False
        self.gate = threading.Event()
        self.admission = Admission[Request](limit="queue", at_once=1, queue=8)
        self.outcomes: list[list[Any]] = []
        self._features = loaded.features
        slots, metrics = Slots(), PredictMetrics(CollectorRegistry(), Statistics())
        slots.put(View(slot=Slot(loaded), classifier=loaded.classifier()))
        batcher = Batcher(slots, self.admission, metrics, queue=8)
        self._pipeline = Pipeline(8, slots, self.admission, batcher, metrics)
        loaded.features = self.compute

    def compute(self, batch: Any) -> Any:
        self.sizes.append(len(batch))
        assert self.gate.wait(300)
        if self.fails:
            raise RuntimeError("out of memory")
        return self._features(batch)

    def come(self, *images: Image, call: TestCall | None = None) -> None:
        """One more call; returns once it is at work or in line."""
        outcome: list[Any] = []

        def run() -> None:
            try:
                outcome.append(self._pipeline.answer(_Query(list(images)), call or TestCall()))
            except Exception as error:
                outcome.append(error)

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
    return load(write_artifact(tmp_path / "v", Recipe()), 1, EngineConfig(device="cpu"))


@pytest.fixture
def line(loaded):
    return _Line(loaded)


def _image(seed: int) -> Image:
    return lambda: np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)


def test_a_turn_computes_those_who_wait_behind_it_and_each_gets_its_own(loaded):
    features = loaded.features
    line = _Line(loaded)
    expected = [features(_image(seed)()[None]) for seed in range(4)]
    for seed in range(4):
        line.come(_image(seed))
    results = line.results()
    assert line.sizes == [1, 3]
    for wanted, got in zip(expected, results, strict=True):
        np.testing.assert_allclose(got.features, wanted, rtol=1e-5)
        assert got.probabilities.shape == (1, 2)
        assert got.queue_s >= 0
        assert got.decode_s > 0


def test_a_call_of_many_images_has_a_turn_of_its_own_and_those_behind_it_wait_for_theirs(line):
    line.come(_image(0))
    line.come(_image(1))
    line.come(*(_image(seed) for seed in range(2, 5)))
    line.come(_image(3))
    line.results()
    assert line.sizes == [1, 1, 3, 1]


def test_an_image_that_cannot_be_used_fails_its_own_call_alone(line):
    def bad() -> Any:
        raise BadImage("damaged")

    for decode in (_image(0), _image(1), bad, _image(2)):
        line.come(decode)
    results = line.results()
    assert [type(result) for result in results] == [Computed, Computed, InvalidInput, Computed]
    assert str(results[2]) == "images[0]: damaged"
    assert line.sizes == [1, 2]


def test_nothing_is_computed_for_a_caller_that_hangs_up_as_it_is_gathered(line):
    call = TestCall()

    def hang_up() -> Any:
        call.hang_up()  # it is out of the line by now: the turn's own image is decoded first
        return _image(1)()

    line.come(_image(0))
    line.come(_image(9))
    line.come(hang_up)  # stands for a caller that goes while those before it are decoded
    line.come(_image(2), call=call)
    results = line.results()
    assert isinstance(results[3], CallerGone)
    assert line.sizes == [1, 2]


def test_a_failure_of_the_engine_reaches_all_and_the_next_turn_goes_on(line):
    for seed in range(3):
        line.come(_image(seed))
    line.fails = True
    assert [str(result) for result in line.results()] == ["out of memory"] * 3
    line.fails = False
    line.outcomes.clear()
    line.come(_image(0))
    assert line.results()[0].features.shape == (1, 6)
