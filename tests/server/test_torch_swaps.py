"""Slots, batcher and real versions of the PyTorch engine on each device: every answer is of the version it names."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from accrete_model.config import EngineConfig
from accrete_model.loaded_version import load
from accrete_server.versions.slots import Slot, Slots, View
from benchmarks.gpu.parts.swaps import Way
from tests.devices import DEVICES
from tests.model.test_torch_engine import TOLERANCE, noise, reference, write

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("device", DEVICES)
def test_swaps_under_load_mix_no_versions(tmp_path, device):
    config = EngineConfig(engine="torch", device=device, max_batch=16)
    folders = [write(tmp_path / str(seed), seed=seed) for seed in (1, 2)]
    batch = noise(6)
    wanted = [reference(folder, batch) for folder in folders]
    slots = Slots()
    way = Way(slots)
    enough, seen = threading.Event(), set()
    problems: list[object] = []

    def ask(count: int) -> None:
        while not enough.is_set():
            try:
                found = way.ask(batch[:count])
            except Exception as error:
                problems.append(error)
                return
            features = wanted[found.version % 2][:count]
            seen.add(found.version)
            if not np.abs(found.features - features).max() <= TOLERANCE * np.abs(features).max():
                problems.append(found.version)

    def swap(number: int) -> None:
        loaded = load(folders[number % 2], number, config)
        slots.put(View(slot=Slot(loaded), classifier=loaded.classifier()))
        deadline = time.monotonic() + 10
        while slots.resident > 1:
            assert time.monotonic() < deadline
            slots.reap()
            time.sleep(0.002)

    swap(0)
    threads = [threading.Thread(target=ask, args=(count,)) for count in (1, 2, 5, 6)]
    for thread in threads:
        thread.start()
    try:
        for number in range(1, 11):
            swap(number)
            time.sleep(0.02)
    finally:
        enough.set()
        for thread in threads:
            thread.join()
        way.close()
        slots.free()
    assert not problems
    assert len(seen) > 5
