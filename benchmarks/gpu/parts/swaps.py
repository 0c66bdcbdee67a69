"""A hundred swaps in one process, with captured graphs: each version's answers against the same network without them.

A captured graph reads its weights from where they lay when it was captured, so that a swap which put others there would
answer wrongly and say nothing. Callers ask through the batcher all the time; each answer is checked against the version
that it names.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from accrete_learner.config import ModelConfig
from accrete_learner.torch_engine import TorchEngine
from accrete_model.config import EngineConfig
from accrete_model.loaded_version import load
from accrete_model.reader import read_artifact
from accrete_model.vectors import Floats
from accrete_server.metrics.collectors import PredictMetrics
from accrete_server.metrics.statistics import Statistics
from accrete_server.predict.batcher import Batcher, Computed, Request
from accrete_server.predict.line import Line
from accrete_server.versions.slots import Slot, Slots, View
from benchmarks.gpu.models import artifact, served
from benchmarks.gpu.record import OutOfTime, Record
from benchmarks.gpu.settings import Settings
from benchmarks.noise import noise
from benchmarks.report import Row, median_row

_TOLERANCE = 2e-3
"""Of features, relative to the largest: a batch of another size may be computed by another algorithm, in TF32."""
_VERSIONS = 2
_CALLERS = 4


class Caller:
    """One who waits for ever."""

    def is_active(self) -> bool:
        """Always."""
        return True

    def time_remaining(self) -> float | None:
        """Without a deadline."""
        return None

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """It never ends by itself."""
        return True


class Way:
    """The way of a call's images through line and batcher, as the server's pipeline takes them."""

    def __init__(self, slots: Slots) -> None:
        self._line = Line(limit="queue", at_once=_CALLERS, queue=64)
        metrics = PredictMetrics(CollectorRegistry(), Statistics())
        self._batcher = Batcher(slots, metrics, self._finish, queue=64)
        self._waiting: dict[Request, threading.Event] = {}

    def ask(self, images: NDArray[np.uint8]) -> Computed:
        """Return what the images came to, by the version that was live when they were computed."""
        request, finished = Request(lambda: images, Caller(), len(images)), threading.Event()
        self._waiting[request] = finished
        self._line.enter(request)
        while not finished.is_set():
            turn, began = self._line.take(), time.perf_counter()
            if turn:
                self._batcher.submit([one for one in turn if one.try_decode()])
                self._line.leave(turn, time.perf_counter() - began)
            finished.wait(0.001)
        del self._waiting[request]
        return request.result()

    def close(self) -> None:
        """Stop the batcher."""
        self._batcher.close()

    def _finish(self, requests: Sequence[Request]) -> None:
        for request in requests:
            self._waiting[request].set()


def run(record: Record, settings: Settings) -> None:
    """Swap each network, the smallest first."""
    swaps = 6 if settings.tiny else 100
    for name, network in list(served(settings).items())[:2]:
        record.cell(f"{name}: {swaps} swaps", partial(_swaps, record, settings, network, swaps))


def _swaps(record: Record, settings: Settings, network: ModelConfig, swaps: int) -> Iterator[Row]:
    config = EngineConfig(engine="torch", device=settings.device)  # type: ignore[arg-type]
    folders = [artifact(settings, network, seed) for seed in range(1, _VERSIONS + 1)]
    batch = noise(64, network.input_shape)
    wanted = [_eager(TorchEngine(read_artifact(folder), config, graphs=False), batch) for folder in folders]
    slots = Slots()
    way = Way(slots)
    checked, loads, memory = Checked(), [], []
    asking = Asking(way, batch, wanted, checked)
    captured = 0
    try:
        for number in range(swaps):
            if record.left_s < 5:
                raise OutOfTime(f"{number} of {swaps} swaps")
            started = time.perf_counter()
            loaded = load(folders[number % _VERSIONS], number, config)
            loads.append(1000 * (time.perf_counter() - started))
            captured += loaded.engine_name.endswith("graphs")
            slots.put(View(slot=Slot(loaded), classifier=loaded.classifier()))
            asking.start()
            for size in (1, 3, 16, 64):
                checked.compare(loaded.features(batch[:size]), wanted[number % _VERSIONS][:size], f"swap {number}")
            while slots.resident > 1:
                slots.reap()
                time.sleep(0.001)
            memory.append(torch.cuda.memory_allocated() / 2**20 if settings.on_gpu else 0.0)
    finally:
        asking.stop()
        way.close()
        slots.free()
    for problem in checked.problems[:5]:
        record.note(problem)
    yield Row(name="swaps", value=swaps, unit="")
    yield Row(name="of these with captured graphs", value=captured, unit="", bound=f">= {swaps * settings.on_gpu}")
    yield Row(name="batches of callers meanwhile", value=asking.asked, unit="")
    yield Row(name="answers that are not the version's", value=len(checked.problems), unit="", bound="<= 0")
    yield Row(name="largest difference from eager, relative", value=checked.largest, unit="")
    yield median_row("from the folder to a version that can answer", loads, "ms")
    yield Row(
        name="device memory gained by all swaps but the first ten",
        value=memory[-1] - memory[len(memory) // 10],
        unit="MiB",
        bound="<= 1",
    )


def _eager(engine: TorchEngine, batch: Any) -> Floats:
    try:
        return engine.run(batch)
    finally:
        engine.close()


class Checked:
    """Compares, from several threads."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.largest = 0.0

    def compare(self, got: Floats, wanted: Floats, where: str) -> None:
        """Keep a difference that is too large."""
        apart = float(np.abs(got - wanted).max() / np.abs(wanted).max())
        self.largest = max(self.largest, apart)
        if not apart <= _TOLERANCE:
            self.problems.append(f"{where}: {apart:.3g} apart")


class Asking:
    """Callers on threads of their own, which ask from when there is a version until they are stopped."""

    def __init__(self, way: Way, batch: Any, wanted: list[Floats], checked: Checked) -> None:
        self.asked = 0
        self._way, self._batch, self._wanted, self._checked = way, batch, wanted, checked
        self._enough = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin, unless they have."""
        if not self._threads:
            self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(_CALLERS)]
            for thread in self._threads:
                thread.start()

    def stop(self) -> None:
        """End; each finishes its last call."""
        self._enough.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, number: int) -> None:
        images = self._batch[number : number + 1 + 4 * number]
        while not self._enough.is_set():
            try:
                found = self._way.ask(images)
            except Exception as error:  # what a caller would be told
                self._checked.problems.append(f"a caller got {error!r}")
                return
            wanted = self._wanted[found.view.version % _VERSIONS]
            self._checked.compare(
                found.features, wanted[number : number + len(images)], f"version {found.view.version}"
            )
            self.asked += 1
