"""The trainer as the learner uses it: a real process, told a folder of real data, leaving files that answer."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime
import pytest
from safetensors.numpy import load_file, save_file

from accrete_learner.config import MethodConfig, ModelConfig, TrainingConfig
from accrete_learner.memory.config import MemoryConfig
from accrete_learner.metrics import Tally, accuracy
from accrete_learner.trainer.job import INPUTS_FILE, JOB_FILE, RESULT_FILE, Job, Result

pytestmark = pytest.mark.integration

Trainer = Callable[[], "subprocess.Popen[str]"]
Tallies = Callable[..., dict[str, Tally]]
Digits = Callable[..., tuple[np.ndarray, np.ndarray]]
OUTPUTS = {"candidate", "exemplars.safetensors", RESULT_FILE}


def run(trainer: subprocess.Popen[str], folder: Path) -> list[dict[str, Any]]:
    """Tells it the folder and waits for the step's end; its events."""
    begin(trainer, folder)
    events: list[dict[str, Any]] = []
    while not events or events[-1]["stage"] not in ("done", "error"):
        events.append(said(trainer))
    return events


def begin(trainer: subprocess.Popen[str], folder: Path) -> None:
    """Tells it the folder."""
    assert trainer.stdin is not None
    trainer.stdin.write(f"{json.dumps(str(folder))}\n")
    trainer.stdin.flush()


def said(trainer: subprocess.Popen[str]) -> dict[str, Any]:
    """Waits for what it says next."""
    assert trainer.stdout is not None
    assert trainer.stderr is not None
    line = trainer.stdout.readline()
    assert line, trainer.stderr.read()
    return dict(json.loads(line))


@pytest.fixture(scope="module")
def trainer(start_trainer: Trainer) -> Iterator[subprocess.Popen[str]]:
    """One that runs a step after the other, as a learner has it do."""
    process = start_trainer()
    yield process
    output, _ = process.communicate(timeout=300)
    assert (process.returncode, output) == (0, '{"stage": "ready"}\n')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Steps:
    """A base step with digits 0 to 3 and an increment with 4 and 5, by the real process."""

    base: Path
    increment: Path
    events: list[dict[str, Any]]


@pytest.fixture(scope="module", params=["lucir", "icarl"])
def steps(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    write_step: Callable[..., Job],
    trainer: subprocess.Popen[str],
) -> Steps:
    root = tmp_path_factory.mktemp("steps")
    method = MethodConfig(name=request.param)
    write_step(root / "1", classes=4, method=method)
    run(trainer, root / "1")
    kept = load_file(root / "1" / "exemplars.safetensors")
    arrays = {
        "exemplar_x": kept["x"],
        "exemplar_y": kept["y"],
        "exemplar_rank": np.tile(np.arange(5), 4),
    }
    write_step(root / "2", classes=6, old=4, parent=root / "1" / "candidate", arrays=arrays, method=method)
    return Steps(base=root / "1", increment=root / "2", events=run(trainer, root / "2"))


def test_two_steps_learn_all_classes(steps: Steps, tallies: Tallies, digits: Digits):
    base = tallies(steps.base, *digits(range(4), 20, 40))
    increment = tallies(steps.increment, *digits(range(6), 20, 40))
    assert set(increment) == {f"digit {label}" for label in range(6)}
    assert (accuracy(base) or 0) > 0.8
    assert (accuracy(increment) or 0) > 0.6


def test_a_finished_step_says_what_its_training_took(steps: Steps):
    result = Result.read(steps.base)
    assert len(result.losses) == 6
    assert result.images == 6 * 4 * 40
    assert set(result.stage_seconds) == {"load", "build", "train", "rebalance", "memory", "head", "export"}


@pytest.mark.parametrize("step", ["base", "increment"])
def test_onnxruntime_and_the_head_alone_give_the_golden_answers(steps: Steps, step: str):
    candidate: Path = getattr(steps, step) / "candidate"
    model = json.loads((candidate / "model.json").read_text())
    golden, head = load_file(candidate / "golden.safetensors"), load_file(candidate / "head.safetensors")
    session = onnxruntime.InferenceSession(str(candidate / "graph.onnx"), providers=["CPUExecutionProvider"])
    (features,) = session.run(["features"], {"input": golden["input"]})
    np.testing.assert_allclose(features, golden["features"], rtol=1e-3, atol=1e-4)

    def unit(rows: np.ndarray) -> np.ndarray:
        directions: np.ndarray = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return directions

    if model["rule"] == "nme":
        scores = model["nme_scale"] * unit(features) @ unit(head["means"]).T
    elif model["head"] == "cosine":
        scores = head["scale"] * (unit(features) @ unit(head["weight"]).T)
    else:
        scores = features @ head["weight"].T + head["bias"]
    weights = np.exp(scores - scores.max(1, keepdims=True))
    np.testing.assert_allclose(weights / weights.sum(1, keepdims=True), golden["probabilities"], atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(head["means"], axis=1), 1.0, rtol=1e-5)
    assert model["labels"] == [f"digit {label}" for label in range(len(scores[0]))]


def test_exemplars_are_examples_that_came_for_the_classes_chosen_anew(steps: Steps):
    kept, inputs = load_file(steps.increment / "exemplars.safetensors"), load_file(steps.increment / INPUTS_FILE)
    pool = np.concatenate((inputs["exemplar_x"], inputs["new_x"]))
    labels = np.concatenate((inputs["exemplar_y"], inputs["new_y"]))
    assert np.bincount(kept["y"]).tolist() == [0, 0, 0, 0, 5, 5]
    np.testing.assert_array_equal(kept["x"], pool[kept["source"]])
    np.testing.assert_array_equal(kept["y"], labels[kept["source"]])
    assert len(set(kept["source"].tolist())) == len(kept["source"])


def test_it_says_what_it_does_in_lines_of_json(steps: Steps):
    assert [event["stage"] for event in steps.events[:2]] == ["ready", "begun"]
    assert steps.events[-1] == {"stage": "done"}
    training = [event for event in steps.events if event["stage"] == "train"]
    assert training[-1]["done"] == training[-1]["total"] == 6
    assert all(isinstance(event["loss"], float) for event in training)


def test_a_finished_step_leaves_its_inputs_its_outputs_and_nothing_else(steps: Steps):
    assert {path.name for path in steps.base.iterdir()} == {JOB_FILE, INPUTS_FILE, *OUTPUTS}


def test_a_trainer_standing_by_leaves_when_nobody_can_tell_it_anything(start_trainer: Trainer, tmp_path: Path):
    process = start_trainer()
    assert process.stdout is not None
    assert json.loads(process.stdout.readline()) == {"stage": "ready"}
    output, errors = process.communicate(str(tmp_path), timeout=300)
    assert (process.returncode, output, errors) == (0, "", ""), "and half a line is not a folder"


def test_a_step_that_fails_says_why_and_leaves_no_result(
    trainer: subprocess.Popen[str], write_step: Callable[..., Job], tmp_path: Path
):
    write_step(tmp_path, classes=2, arrays={"new_y": np.full(80, 9)})
    events = run(trainer, tmp_path)
    assert events[-1] == {"stage": "error", "reason": "new_y has a class outside 0 to 1"}
    assert not OUTPUTS & {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize("killed", ["trainer", "step"])
def test_a_killed_trainer_leaves_nothing_that_looks_finished_and_the_step_runs_again(
    start_trainer: Trainer,
    trainer: subprocess.Popen[str],
    write_step: Callable[..., Job],
    tmp_path: Path,
    killed: Literal["trainer", "step"],
):
    job = write_step(tmp_path, classes=2, training=TrainingConfig(base_epochs=5000, threads=1))
    process = start_trainer()
    begin(process, tmp_path)
    assert said(process) == {"stage": "ready"}
    step = said(process)["pid"]
    while said(process)["stage"] != "train":
        pass
    assert len(list(Path(f"/proc/{process.pid}/task").iterdir())) == 1, "it could not fork safely with a second thread"
    os.kill(step if killed == "step" else process.pid, signal.SIGKILL)
    process.communicate(timeout=300)  # until both are gone, as both hold the pipes
    assert process.returncode == -signal.SIGKILL
    assert {path.name for path in tmp_path.iterdir()} == {JOB_FILE, INPUTS_FILE}
    # As if killed while it wrote: the next run replaces the half that it finds.
    (tmp_path / "candidate").mkdir()
    (tmp_path / "candidate" / "graph.onnx").write_text("half")
    dataclasses.replace(job, training=TrainingConfig(base_epochs=1, threads=1)).write(tmp_path)
    assert run(trainer, tmp_path)[-1] == {"stage": "done"}
    assert len(Result.read(tmp_path).losses) == 1


def write_vectors(folder: Path, *, old: int = 0, parent: Path | None = None, **fields: Any) -> tuple[Any, Any]:
    """A step in which classes `old` to 2 of vectors are new, for a network that is its head alone; all vectors."""
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(3, 6)).astype(np.float32) * 4
    y = np.repeat(np.arange(3), 30)
    x = centres[y] + generator.normal(size=(90, 6)).astype(np.float32)
    folder.mkdir(exist_ok=True)
    new = (old <= y) & (y < len(fields["labels"]))
    save_file({"new_x": x[new], "new_y": y[new]}, folder / INPUTS_FILE)
    Job(
        version=1 if parent is None else 2,
        old_count=old,
        parent=None if parent is None else str(parent),
        parent_rows=tuple(range(old)),
        model=ModelConfig(backbone="identity", embedding=6),
        memory=MemoryConfig(size=4),
        **fields,
    ).write(folder)
    return x, y


def test_vectors_are_learned_as_they_are(trainer: subprocess.Popen[str], tallies: Tallies, tmp_path: Path):
    x, y = write_vectors(
        tmp_path,
        labels=("a", "b", "c"),
        method=MethodConfig(rule="nme"),
        training=TrainingConfig(base_epochs=10, threads=1),
    )
    assert run(trainer, tmp_path)[-1] == {"stage": "done"}
    assert (accuracy(tallies(tmp_path, x[::9], y[::9])) or 0) > 0.8
    golden = load_file(tmp_path / "candidate" / "golden.safetensors")
    np.testing.assert_array_equal(golden["input"], golden["features"])


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_a_step_learns_what_it_learns_otherwise(
    start_trainer: Trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The head alone: for each layer of a network the compiler of C++ would take seconds, and there is a teacher."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "code"))
    monkeypatch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "1")
    monkeypatch.setenv("TORCHINDUCTOR_CPP_CACHE_PRECOMPILE_HEADERS", "0")  # which pays for more than a few layers
    monkeypatch.setenv("TORCHINDUCTOR_DEBUG_COMPILE", "1")  # unoptimised code is made in two thirds of the time
    monkeypatch.setenv("TORCHINDUCTOR_VEC_ISA_OK", "1")  # as five programs would find out that are compiled for it
    trainer = start_trainer()
    losses = {}
    training = TrainingConfig(base_epochs=2, epochs=2, batch_size=30, threads=1)
    method = MethodConfig(name="lwf")
    write_vectors(tmp_path / "1", labels=("a", "b"), method=method, training=training)
    assert run(trainer, tmp_path / "1")[-1] == {"stage": "done"}
    for folder, compiled in ((tmp_path / "eager", False), (tmp_path / "compiled", True)):
        write_vectors(
            folder,
            labels=("a", "b", "c"),
            old=2,
            parent=tmp_path / "1" / "candidate",
            method=method,
            training=dataclasses.replace(training, compile=compiled),
        )
        assert run(trainer, folder)[-1] == {"stage": "done"}
        losses[compiled] = Result.read(folder).losses
    trainer.communicate(timeout=300)
    assert len(list((tmp_path / "code").rglob("*.so"))) >= 2, "of the network and of its teacher"
    assert losses[True] == pytest.approx(losses[False], rel=0.02)
