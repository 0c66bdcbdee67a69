"""One step from a folder to a folder, in every shape that real streams give it."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from accrete_learner import methods
from accrete_learner.config import MethodConfig, ModelConfig
from accrete_learner.metrics import Tally
from accrete_learner.trainer.inputs import read_inputs
from accrete_learner.trainer.job import INPUTS_FILE, Job
from accrete_learner.trainer.run_job import run_job
from accrete_model.config import EngineConfig
from accrete_model.loaded_version import load

pytestmark = pytest.mark.integration

WriteStep = Callable[..., Job]
Tallies = Callable[..., dict[str, Tally]]
Digits = Callable[..., tuple[np.ndarray, np.ndarray]]

# Few epochs are enough for features that tell classes apart, and not for a head.
NEAREST = MethodConfig(name="lucir", rule="nme")


def run(folder: Path, job: Job | None = None) -> None:
    run_job(folder, job or Job.read(folder), lambda stage, done, total, loss: None)


def head(folder: Path) -> dict[str, np.ndarray]:
    return load_file(folder / "candidate" / "head.safetensors")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, write_step: WriteStep) -> Path:
    """A finished first step with digits 0 to 2."""
    folder = tmp_path_factory.mktemp("base")
    write_step(folder, classes=3)
    run(folder)
    return folder


def memory_of(base: Path) -> dict[str, np.ndarray]:
    kept = load_file(base / "exemplars.safetensors")
    return {"exemplar_x": kept["x"], "exemplar_y": kept["y"], "exemplar_rank": np.tile(np.arange(5), 3)}


def test_the_same_step_run_again_makes_the_same_model(base: Path, tmp_path: Path):
    for name in ("job.json", INPUTS_FILE):
        shutil.copy(base / name, tmp_path / name)
    run(tmp_path)
    for name in ("graph.onnx", "head.safetensors", "weights.safetensors", "golden.safetensors"):
        assert (tmp_path / "candidate" / name).read_bytes() == (base / "candidate" / name).read_bytes()
    assert (tmp_path / "exemplars.safetensors").read_bytes() == (base / "exemplars.safetensors").read_bytes()


def test_a_forgotten_class_leaves_the_head_and_the_others_keep_their_rows(
    base: Path, tmp_path: Path, write_step: WriteStep, tallies: Tallies, digits: Digits
):
    # Digit 1 is forgotten and 3 is new: labels 0, 2, 3 are classes 0, 1, 2.
    memory = memory_of(base)
    stays = memory["exemplar_y"] != 1
    new_x, new_y = digits([3], 40)
    place = np.array([0, -1, 1, 2])
    arrays = {name: array[stays] for name, array in memory.items()}
    arrays |= {"exemplar_y": place[arrays["exemplar_y"]], "new_x": new_x, "new_y": place[new_y]}
    labels = ("digit 0", "digit 2", "digit 3")
    parent = base / "candidate"
    rows = {"labels": labels, "parent_rows": (0, 2)}
    write_step(tmp_path, classes=3, old=2, parent=parent, arrays=arrays, method=NEAREST, **rows)
    run(tmp_path)
    x, y = digits([0, 2, 3], 20, 40)
    found = tallies(tmp_path, x, place[y])
    assert set(found) == set(labels)
    assert found["digit 2"].hits > 10
    assert head(tmp_path)["weight"].shape == (3, 128)


def test_new_examples_of_known_classes_alone_are_a_step(
    base: Path, tmp_path: Path, write_step: WriteStep, tallies: Tallies, digits: Digits
):
    new_x, new_y = digits([1], 30, 60)
    arrays = memory_of(base) | {"new_x": new_x, "new_y": new_y}
    write_step(tmp_path, classes=3, old=3, parent=base / "candidate", arrays=arrays, method=NEAREST)
    run(tmp_path)
    assert set(load_file(tmp_path / "exemplars.safetensors")["y"].tolist()) == {1}
    found = tallies(tmp_path, *digits(range(3), 20, 40))
    assert min(tally.hits for tally in found.values()) > 10


def test_an_exemplar_names_the_example_of_the_inputs_that_it_is(
    base: Path, tmp_path: Path, write_step: WriteStep, digits: Digits
):
    new_x, new_y = digits([1, 2], 10, 60)
    memory = memory_of(base)
    write_step(tmp_path, classes=3, old=3, parent=base / "candidate", arrays=memory | {"new_x": new_x, "new_y": new_y})
    run(tmp_path)
    kept = load_file(tmp_path / "exemplars.safetensors")
    pool_x, pool_y = (np.concatenate([memory[f"exemplar_{name}"], new]) for name, new in (("x", new_x), ("y", new_y)))
    assert (kept["source"] < len(memory["exemplar_y"])).any(), "some are from before"
    np.testing.assert_array_equal(kept["y"], pool_y[kept["source"]])
    np.testing.assert_array_equal(kept["x"], pool_x[kept["source"]])


def test_one_new_class_is_a_step(base: Path, tmp_path: Path, write_step: WriteStep, tallies: Tallies, digits: Digits):
    write_step(tmp_path, classes=4, old=3, parent=base / "candidate", arrays=memory_of(base), method=NEAREST)
    run(tmp_path)
    assert tallies(tmp_path, *digits(range(4), 20, 40))["digit 3"].hits > 10


def test_exemplars_reach_the_method_in_rank_order(base: Path, tmp_path: Path, write_step: WriteStep):
    memory = memory_of(base)
    shuffled = np.random.default_rng(0).permutation(15)
    arrays = {name: array[shuffled] for name, array in memory.items()}
    job = write_step(tmp_path, classes=4, old=3, parent=base / "candidate", arrays=arrays)
    tensors = {name: torch.from_numpy(array) for name, array in load_file(tmp_path / INPUTS_FILE).items()}
    inputs, place = read_inputs(tensors, job, methods.configured(job.method, job.training), torch.Generator())
    np.testing.assert_array_equal(arrays["exemplar_x"][place], inputs.exemplar_x)
    for label in range(3):
        own = memory["exemplar_x"][memory["exemplar_y"] == label]
        np.testing.assert_array_equal(inputs.exemplar_x[inputs.exemplar_y == label].numpy(), own)


def test_bfloat16_trains_and_the_files_stay_float32(tmp_path: Path, write_step: WriteStep):
    job = write_step(tmp_path, classes=2)
    run(tmp_path, dataclasses.replace(job, training=dataclasses.replace(job.training, precision="bfloat16")))
    numbers = {name: array.dtype for name, array in head(tmp_path).items() if name != "blocks"}
    assert set(numbers.values()) == {np.dtype(np.float32)}
    weights = load_file(tmp_path / "candidate" / "weights.safetensors")
    assert {array.dtype for array in weights.values() if array.ndim} == {np.dtype(np.float32)}


def test_a_later_step_may_use_another_method_with_the_same_kind_of_head(
    base: Path, tmp_path: Path, write_step: WriteStep
):
    method = MethodConfig(name="lucir", rule="nme", selection="random")
    write_step(tmp_path, classes=4, old=3, parent=base / "candidate", arrays=memory_of(base), method=method)
    run(tmp_path)
    description = json.loads((tmp_path / "candidate" / "model.json").read_text())
    assert (description["method"], description["rule"]) == ("lucir", "nme")


def test_a_network_goes_on_as_it_was_built_under_a_method_that_builds_another(tmp_path: Path, write_step: WriteStep):
    """WA builds a last ReLU, fine-tuning none; what describes the network must be what was trained."""
    write_step(tmp_path / "first", classes=3, method=MethodConfig(name="finetune"))
    run(tmp_path / "first")
    method = MethodConfig(name="wa")
    parent = tmp_path / "first" / "candidate"
    for number in (2, 3):
        folder = tmp_path / f"step {number}"
        write_step(folder, classes=number + 2, old=number + 1, parent=parent, method=method)
        run(folder)
        parent = folder / "candidate"
        load(parent, number, EngineConfig(engine="onnxruntime", device="cpu"))
        load(parent, number, EngineConfig(engine="torch", device="cpu"))


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"new_x": np.zeros((80, 8, 8, 3), np.uint8)}, r"new_x is torch.uint8 \[8, 8, 3\], the network takes"),
        ({"new_x": np.zeros((80, 8, 8, 1), np.float32)}, "new_x is torch.float32"),
        ({"new_y": np.zeros(79, np.int64)}, "new_y must be 80 int64 classes"),
        ({"new_y": np.zeros(80, np.int32)}, "new_y must be 80 int64 classes"),
        ({"new_y": np.full(80, -1)}, "new_y has a class outside 0 to 1"),
        ({"exemplar_rank": np.arange(3)}, "exemplar_rank has 3 entries for 0 exemplars"),
    ],
)
def test_inputs_that_do_not_fit_the_job_are_refused_by_name(
    arrays: dict[str, np.ndarray], said: str, tmp_path: Path, write_step: WriteStep
):
    write_step(tmp_path, classes=2, arrays=arrays)
    with pytest.raises(ValueError, match=said):
        run(tmp_path)
    assert not (tmp_path / "result.json").exists()


def test_a_parent_of_another_network_is_refused(base: Path, tmp_path: Path, write_step: WriteStep):
    job = write_step(tmp_path, classes=4, old=3, parent=base / "candidate")
    other = dataclasses.replace(job, model=ModelConfig(backbone="resnet32", input_size=8, channels=1))
    with pytest.raises(ValueError, match="the parent is a resnet8 for .* asks for resnet32"):
        run(tmp_path, other)


def test_a_parent_without_that_row_is_refused(base: Path, tmp_path: Path, write_step: WriteStep):
    job = write_step(tmp_path, classes=4, old=3, parent=base / "candidate")
    with pytest.raises(ValueError, match="parent_rows has a row outside 0 to 2"):
        run(tmp_path, dataclasses.replace(job, parent_rows=(0, 1, 3)))


def test_a_parents_step_does_not_need_the_first_weights_any_more(base: Path, tmp_path: Path, write_step: WriteStep):
    job = write_step(tmp_path, classes=4, old=3, parent=base / "candidate", arrays=memory_of(base))
    gone = dataclasses.replace(job.model, weights="/nowhere/weights.pth")
    run(tmp_path, dataclasses.replace(job, model=gone))
    assert head(tmp_path)["weight"].shape == (4, 128)


def test_a_missing_input_file_is_an_os_error(tmp_path: Path, write_step: WriteStep):
    job = write_step(tmp_path, classes=2)
    (tmp_path / INPUTS_FILE).unlink()
    with pytest.raises(OSError, match="No such file"):
        run(tmp_path, job)
