"""The PyTorch engine on each device: batches of any size, callers at once, captured graphs, memory given back."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from accrete_learner import backbones, export
from accrete_learner.config import ModelConfig
from accrete_learner.torch_engine import TorchEngine
from accrete_model.config import EngineConfig
from accrete_model.loaded_version import load
from accrete_model.reader import read_artifact
from accrete_model.vectors import Floats
from tests.devices import DEVICES, needs_gpu

NETWORK = ModelConfig(backbone="resnet8", input_size=16)
TOLERANCE = 2e-3  # relative to the largest feature: a GPU multiplies in TF32


def write(folder: Path, network: ModelConfig = NETWORK, seed: int = 1) -> Path:
    generator = torch.Generator().manual_seed(seed)
    backbone = backbones.build(network, generator=generator).eval()
    rows = torch.randn(3, backbone.feature_length, generator=generator)
    candidate = export.Candidate(
        backbone=backbone,
        head={"weight": rows, "scale": torch.tensor([10.0]), "means": torch.nn.functional.normalize(rows)},
        labels=("a", "b", "c"),
        model=network,
        method="lucir",
        rule="head",
    )
    export.write(folder, candidate, torch.from_numpy(noise(8, network, seed)))
    return folder


def noise(count: int, network: ModelConfig = NETWORK, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, *network.input_shape), dtype=np.uint8)


def close(got: Floats, wanted: Floats) -> None:
    np.testing.assert_allclose(got, wanted, rtol=0, atol=TOLERANCE * float(np.abs(wanted).max()))


def reference(folder: Path, batch: NDArray[np.uint8]) -> Floats:
    """Features by the CPU."""
    engine = TorchEngine(read_artifact(folder), EngineConfig(engine="torch", device="cpu"))
    try:
        return engine.run(batch)
    finally:
        engine.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write(tmp_path_factory.mktemp("version") / "1")


@pytest.fixture
def engine(folder, request):
    engine = TorchEngine(read_artifact(folder), EngineConfig(engine="torch", device=request.param, max_batch=16))
    yield engine
    engine.close()


@pytest.mark.parametrize("engine", DEVICES, indirect=True)
@pytest.mark.parametrize("count", [1, 2, 3, 7, 16, 17, 40])
def test_any_number_of_images_computes_what_the_cpu_computes(engine, folder, count):
    batch = noise(count)
    close(engine.run(batch), reference(folder, batch))


@pytest.mark.parametrize("engine", DEVICES, indirect=True)
def test_a_read_only_view_of_a_request_is_computed(engine, folder):
    batch = np.frombuffer(noise(3).tobytes(), np.uint8).reshape(3, *NETWORK.input_shape)
    assert not batch.flags.writeable
    close(engine.run(batch), reference(folder, batch))


@pytest.mark.parametrize("engine", DEVICES, indirect=True)
def test_answers_stay_what_they_were_while_others_are_computed(engine, folder):
    batch = noise(8)
    first = engine.run(batch[:4])
    kept = first.copy()
    engine.run(batch[4:])
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("engine", DEVICES, indirect=True)
def test_callers_at_once_get_their_own_answers(engine, folder):
    batches = [noise(1 + seed % 5, seed=seed) for seed in range(8)]
    wanted = [reference(folder, batch) for batch in batches]
    problems = []

    def ask(number):
        for _ in range(10):
            got = engine.run(batches[number])
            if not np.abs(got - wanted[number]).max() <= TOLERANCE * np.abs(wanted[number]).max():
                problems.append(number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems


@pytest.mark.parametrize("device", DEVICES)
def test_two_versions_keep_their_own_weights(tmp_path, device):
    config = EngineConfig(engine="torch", device=device, max_batch=8)
    folders = [write(tmp_path / str(seed), seed=seed) for seed in (1, 2)]
    batch = noise(5)
    wanted = [reference(folder, batch) for folder in folders]
    assert np.abs(wanted[0] - wanted[1]).max() > 0.1
    loaded = [load(folder, number, config) for number, folder in enumerate(folders)]
    for _ in range(3):
        for one, features in zip(loaded, wanted, strict=True):
            close(one.features(batch), features)
    loaded[0].close()
    close(loaded[1].features(batch), wanted[1])
    loaded[1].close()


@pytest.mark.parametrize("device", DEVICES)
def test_embeddings_pass_through(tmp_path, device):
    network = ModelConfig(backbone="identity", embedding=6)
    rows = torch.randn(2, 6, generator=torch.Generator().manual_seed(0))
    candidate = export.Candidate(
        backbone=backbones.build(network),
        head={"weight": rows, "bias": torch.zeros(2), "means": torch.nn.functional.normalize(rows)},
        labels=("a", "b"),
        model=network,
        method="finetune",
        rule="head",
    )
    export.write(tmp_path / "1", candidate, torch.randn(8, 6))
    loaded = load(tmp_path / "1", 1, EngineConfig(engine="torch", device=device))
    batch = np.random.default_rng(0).standard_normal((5, 6)).astype(np.float32)
    np.testing.assert_allclose(loaded.features(batch), batch)
    loaded.close()


@needs_gpu
def test_the_backbone_is_captured_and_replays_what_it_computes(folder):
    config = EngineConfig(engine="torch", device="cuda", max_batch=16)
    captured = TorchEngine(read_artifact(folder), config)
    eager = TorchEngine(read_artifact(folder), config, graphs=False)
    assert captured.name == "torch cuda graphs"
    assert eager.name == "torch cuda"
    for count in (1, 2, 3, 8, 16, 33):
        batch = noise(count, seed=count)
        close(captured.run(batch), eager.run(batch))
    captured.close()
    eager.close()


@needs_gpu
def test_a_version_is_captured_while_another_answers(folder):
    config = EngineConfig(engine="torch", device="cuda", max_batch=16)
    live = load(folder, 1, config)
    batch, enough, problems, asked = noise(5), threading.Event(), [], []
    wanted = reference(folder, batch)

    def ask():
        while not enough.is_set():
            try:
                close(live.features(batch), wanted)
                asked.append(1)
            except Exception as error:
                problems.append(error)
                return

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        for number in range(5):
            other = load(folder, 2 + number, config)
            assert other.engine_name == "torch cuda graphs"
            other.close()
    finally:
        enough.set()
        thread.join()
    live.close()
    assert not problems
    assert len(asked) > 5


@needs_gpu
def test_closed_versions_give_their_memory_back(folder):
    config = EngineConfig(engine="torch", device="cuda", max_batch=16)
    sizes = []
    for number in range(12):
        load(folder, number, config).close()
        sizes.append(torch.cuda.memory_allocated())
    assert sizes[-1] <= sizes[3]
