"""On a CPU, the calls of a turn are computed as one batch, on the turn's thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from accrete_model.config import EngineConfig
from accrete_model.loaded_version import load
from accrete_server.access.tokens import ANYONE
from accrete_server.errors import CallerGone, InvalidInput, LimitExceeded
from accrete_server.images import BadImage
from accrete_server.metrics.collectors import PredictMetrics
from accrete_server.metrics.statistics import Statistics
from accrete_server.predict.batcher import Computed
from accrete_server.predict.pipeline import Pipeline
from accrete_server.versions.slots import Slot, Slots, View
from tests.model.artifacts import Recipe, write_artifact
from tests.server.calls import TestCall, learned_line

Image = Callable[[], Any]
"""What is sent for an image: a function that returns it decoded, or raises."""


class _Query:
    """A call of a protocol that has no wire: what was computed is the response."""

    field, unknown_rate, timeout_s = "images", 0.0, 0.0

    def __init__(self, images: list[Image]) -> None:
        self.started = time.perf_counter()
        self.images, self.count = images, len(images)

    def check_images(self) -> None:
        pass

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


class _Call(TestCall):
    """One that keeps what it came to."""

    principal = ANYONE

    def __init__(self, images: tuple[Image, ...] = ()) -> None:
        super().__init__()
        self.images, self.outcomes = list(images), list[Any]()

    def read(self) -> Any:
        return _Query(self.images)

    def respond(self, response: Any) -> None:
        self.outcomes.append(response)

    def fail(self, error: Exception) -> None:
        self.outcomes.append(error)


class _Line:
    """Calls that stand in line for turns of a version, and what the turns computed."""

    def __init__(self, loaded: Any) -> None:
        self.sizes: list[int] = []
        self.fails = False
        self._line = learned_line(queue=8)
        self._calls: list[_Call] = []
        self._features = loaded.features
        slots = Slots()
        slots.put(View(slot=Slot(loaded), classifier=loaded.classifier()))
        metrics = PredictMetrics(CollectorRegistry(), Statistics())
        self.pipeline = Pipeline(8, slots, self._line, metrics, queue=8)
        loaded.features = self.compute

    def compute(self, batch: Any) -> Any:
        self.sizes.append(len(batch))
        if self.fails:
            raise RuntimeError("out of memory")
        return self._features(batch)

    def come(self, *images: Image) -> _Call:
        """One more call in line."""
        call = _Call(images)
        self._calls.append(call)
        self.pipeline.enter(call)
        return call

    def results(self) -> list[Any]:
        """Gives them turns until none is left; what each came to."""
        while turn := self._line.take():
            self.pipeline.work(turn)
        assert [len(call.outcomes) for call in self._calls] == [1] * len(self._calls), "each ends once"
        calls, self._calls = self._calls, []
        return [call.outcomes[0] for call in calls]


@pytest.fixture
def loaded(tmp_path):
    return load(write_artifact(tmp_path / "v", Recipe()), 1, EngineConfig(device="cpu"))


@pytest.fixture
def line(loaded):
    return _Line(loaded)


def _image(seed: int) -> Image:
    return lambda: np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)


def test_a_turn_computes_those_who_wait_and_each_gets_its_own(loaded):
    features = loaded.features
    line = _Line(loaded)
    expected = [features(_image(seed)()[None]) for seed in range(4)]
    for seed in range(4):
        line.come(_image(seed))
    results = line.results()
    assert line.sizes == [4]
    for wanted, got in zip(expected, results, strict=True):
        np.testing.assert_allclose(got.features, wanted, rtol=1e-5)
        assert got.probabilities.shape == (1, 2)
        assert got.queue_s >= 0
        assert got.decode_s > 0


def test_calls_of_some_images_share_a_turn_while_they_fit(line):
    line.come(_image(0))
    line.come(*(_image(seed) for seed in range(2, 5)))
    line.come(*(_image(seed) for seed in range(8)))
    line.come(_image(3))
    assert [len(result.features) for result in line.results()] == [1, 3, 8, 1]
    assert line.sizes == [4, 8, 1]


def test_an_image_that_cannot_be_used_fails_its_own_call_alone(line):
    def bad() -> Any:
        raise BadImage("damaged")

    for decode in (_image(0), bad, _image(2)):
        line.come(decode)
    results = line.results()
    assert [type(result) for result in results] == [Computed, InvalidInput, Computed]
    assert str(results[1]) == "images[0]: damaged"
    assert line.sizes == [2]


def test_a_call_without_images_or_with_too_many_fails_before_it_stands_in_line(line):
    line.come()
    line.come(*[_image(0)] * 9)
    assert [type(result) for result in line.results()] == [InvalidInput, LimitExceeded]
    assert line.sizes == []


def test_a_caller_that_hangs_up_in_line_leaves_it_at_once(line):
    call = line.come(_image(0))
    call.hang_up()
    assert [type(outcome) for outcome in call.outcomes] == [CallerGone]
    assert [type(result) for result in line.results()] == [CallerGone]
    assert line.sizes == []


def test_nothing_is_computed_for_a_caller_that_hangs_up_while_those_before_it_are_decoded(line):
    calls: list[_Call] = []

    def hang_up() -> Any:
        calls[0].hang_up()
        return _image(1)()

    line.come(hang_up)
    calls.append(line.come(_image(2)))
    results = line.results()
    assert isinstance(results[1], CallerGone)
    assert line.sizes == [1]


def test_a_failure_of_the_engine_reaches_all_and_the_next_turn_goes_on(line):
    for seed in range(3):
        line.come(_image(seed))
    line.fails = True
    assert [str(result) for result in line.results()] == ["out of memory"] * 3
    line.fails = False
    line.come(_image(0))
    assert line.results()[0].features.shape == (1, 6)


def test_a_fault_of_ours_reaches_every_caller_and_gives_the_turn_back(line, monkeypatch):
    monkeypatch.setattr(line.pipeline.batcher, "submit", lambda requests: 1 / 0)
    for seed in range(2):
        line.come(_image(seed))
    assert [type(result) for result in line.results()] == [ZeroDivisionError] * 2
