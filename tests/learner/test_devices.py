"""Training, steps of every method and their export, on each device.

Shapes: 8 x 8 grey images.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from accrete_learner import heads
from accrete_learner.augmentation import augment
from accrete_learner.config import Augmentation, Device, MethodConfig, RuleChoice, SelectionChoice, TrainingConfig
from accrete_learner.heads import HeadChoice
from accrete_learner.losses import CrossEntropy, LessForget, MarginRanking
from accrete_learner.method_names import available
from accrete_learner.synthesis.recipes import RECIPES
from accrete_learner.trainer.job import CANDIDATE_FOLDER, EXEMPLARS_FILE
from accrete_learner.trainer.run_job import run_job
from accrete_learner.training.loop import TrainingSet, train
from accrete_learner.training.network import Network
from accrete_learner.training.schedule import Schedule
from accrete_model.config import EngineConfig
from accrete_model.loaded_version import load
from tests.devices import DEVICES, NEEDS_GPU, needs_gpu
from tests.learner.test_train import bright_or_dark, make_network

ON_CPU = ("lucir", "bic")
METHODS = [("cpu", name) for name in ON_CPU] + [pytest.param("cuda", name, marks=NEEDS_GPU) for name in available()]
RULES = [("cpu", "knn")] + [pytest.param("cuda", name, marks=NEEDS_GPU) for name in ("knn", "mlp", "svm")]
SELECTIONS = [("cpu", "mnemonics")] + [pytest.param("cuda", name, marks=NEEDS_GPU) for name in RECIPES]


def moved(data: TrainingSet, device: str) -> TrainingSet:
    return TrainingSet(x=data.x.to(device), y=data.y.to(device), fresh=data.fresh.to(device))


def trained(
    device: str, *, autocast: bool = False, compiled: bool = False, augmentation: Augmentation = "crop"
) -> list[float]:
    network = make_network(autocast=autocast).to(device).to(memory_format=torch.channels_last)
    if compiled:
        network.compile(mode="reduce-overhead" if device == "cuda" else "default")
    return train(
        network,
        moved(bright_or_dark(41), device),
        (CrossEntropy(),),
        Schedule(epochs=8, learning_rate=0.05, batch_size=16),
        augmentation=augment.build(augmentation),
        generator=torch.Generator(device).manual_seed(2),
        report=lambda *_: None,
    )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "bfloat16"])
def test_training_lowers_the_loss(device: str, autocast: bool) -> None:
    losses = trained(device, autocast=autocast)
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("augmentation", ["none", "crop_flip", "eeil", "strong"])
def test_each_augmentation_draws_on_the_device(device: str, augmentation: Augmentation) -> None:
    assert math.isfinite(trained(device, augmentation=augmentation)[-1])


@needs_gpu
def test_compiled_training_learns_as_eager_training_does() -> None:
    eager, compiled = trained("cuda"), trained("cuda", compiled=True)
    assert compiled[-1] < compiled[0] / 2
    assert compiled[0] == pytest.approx(eager[0], rel=0.05)


@pytest.mark.parametrize("device", DEVICES)
def test_a_step_with_a_teacher_trains_by_lucirs_loss(device: str) -> None:
    generator = torch.Generator(device).manual_seed(0)
    backbone = make_network().backbone.to(device)
    choice = HeadChoice(kind="cosine")
    parent = heads.grow(choice, None, feature_length=128, class_count=1, generator=generator).export()
    teacher = Network(backbone, heads.restore(parent)).teacher()
    network = Network(backbone, heads.grow(choice, parent, feature_length=128, class_count=2, generator=generator))
    losses = train(
        network,
        moved(bright_or_dark(40), device),
        (CrossEntropy(), LessForget(), MarginRanking()),
        Schedule(epochs=6, learning_rate=0.05, batch_size=16),
        augmentation=augment.build("crop"),
        generator=generator,
        report=lambda *_: None,
        teacher=teacher,
    )
    assert losses[-1] < losses[0]


@needs_gpu
def test_a_captured_pass_follows_weights_that_change_in_place() -> None:
    network = make_network().to("cuda").train()
    data = moved(bright_or_dark(16), "cuda")
    prepared = network.backbone.prepare(data.x)

    def loss() -> torch.Tensor:
        return torch.nn.functional.cross_entropy(network(prepared)[1], data.y)

    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            torch.autograd.backward(loss())
            network.zero_grad(set_to_none=True)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = loss()
        torch.autograd.backward(captured)
    for _ in range(3):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.01 * torch.randn_like(parameter))
        graph.replay()
        assert float(captured) == pytest.approx(float(loss()), rel=1e-3)


def steps(write_step, folder, device: Device, method: MethodConfig, **fields):
    """Two steps, as a trainer runs them; the second's folder."""
    training = TrainingConfig(
        base_epochs=2, epochs=2, batch_size=32, augmentation="crop", threads=1, device=device, copies=1
    )
    first, second = folder / "1", folder / "2"
    job = write_step(first, classes=2, method=method, training=training, **fields)
    run_job(first, job, lambda *_: None)
    kept = load_file(first / EXEMPLARS_FILE)
    counts = torch.bincount(kept["y"]).tolist()
    rows = torch.cat([torch.arange(count) for count in counts] or [kept["y"]])
    exemplars = {"exemplar_x": kept["x"], "exemplar_y": kept["y"], "exemplar_rank": rows}
    job = write_step(
        second,
        classes=4,
        old=2,
        parent=first / CANDIDATE_FOLDER,
        arrays={name: tensor.numpy() for name, tensor in exemplars.items()},
        method=method,
        training=training,
        **fields,
    )
    run_job(second, job, lambda *_: None)
    return second


def check_served(folder, digits, device: Device) -> None:
    """ONNX Runtime on the CPU and PyTorch on the device load it, past its golden outputs, and answer alike."""
    candidate = folder / CANDIDATE_FOLDER
    x, _ = digits(range(4), 5)
    by_graph = load(candidate, 1, EngineConfig(device="cpu")).features(x)
    loaded = load(candidate, 1, EngineConfig(engine="torch", device=device))
    by_weights = loaded.features(x)
    loaded.close()
    np.testing.assert_allclose(by_weights, by_graph, rtol=0, atol=5e-3 * float(np.abs(by_graph).max()))


@pytest.mark.parametrize(("device", "name"), METHODS)
def test_two_steps_of_each_method_are_served(device: Device, name: str, write_step, digits, tmp_path) -> None:
    method = MethodConfig(name=name, synthesis_iterations=2, random_features=100)
    check_served(steps(write_step, tmp_path, device, method), digits, device)


@pytest.mark.parametrize(("device", "selection"), SELECTIONS)
def test_each_way_of_keeping_exemplars_runs_there(
    device: Device, selection: SelectionChoice, write_step, digits, tmp_path
) -> None:
    method = MethodConfig(name="icarl", selection=selection, synthesis_iterations=2)
    check_served(steps(write_step, tmp_path, device, method), digits, device)


@pytest.mark.parametrize(("device", "rule"), RULES)
def test_each_rule_on_exemplars_is_fitted_there(device: Device, rule: RuleChoice, write_step, digits, tmp_path) -> None:
    check_served(steps(write_step, tmp_path, device, MethodConfig(name="icarl", rule=rule)), digits, device)


@pytest.mark.parametrize("device", DEVICES)
def test_weight_transfer_trains_there(device: Device, write_step, digits, tmp_path) -> None:
    check_served(steps(write_step, tmp_path, device, MethodConfig(weight_transfer=True)), digits, device)


@needs_gpu
def test_a_compiled_step_is_served(write_step, digits, tmp_path) -> None:
    training = TrainingConfig(base_epochs=2, epochs=2, batch_size=32, augmentation="crop", device="cuda", compile=True)
    job = write_step(tmp_path / "1", classes=2, training=training)
    run_job(tmp_path / "1", job, lambda *_: None)
    load(tmp_path / "1" / CANDIDATE_FOLDER, 1, EngineConfig(device="cpu")).close()
