"""Protocols run, are killed and go on; what they share changes nothing; no test image is seen before it measures."""

from __future__ import annotations

import functools
import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from accrete_experiments.bench.protocol import BenchError, _read
from accrete_experiments.protocols import orders, spec, work
from accrete_experiments.protocols import run as runs
from accrete_experiments.protocols.data import Dataset, digest, load
from accrete_experiments.protocols.results import Run
from accrete_experiments.protocols.run import (
    CHECKPOINT_FILE,
    MEMORY_FILE,
    TASK_FILE,
    Busy,
    Memory,
    Plan,
    _alone,
    run,
    task_folder,
)
from accrete_experiments.protocols.spec import Protocol
from accrete_learner import methods
from accrete_learner.config import MethodConfig, ModelConfig, TrainingConfig
from accrete_learner.memory.config import MemoryConfig
from accrete_learner.methods.base import Method
from accrete_learner.trainer.job import INPUTS_FILE
from benchmarks.digits import scans_of
from benchmarks.waiting import until
from tests.support.forks import fork

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("left", [b"", bytes(200), b'{"tasks": ['])
def test_files_that_a_loss_of_power_left_are_made_anew_or_named(tmp_path: Path, left: bytes):
    (tmp_path / TASK_FILE).write_bytes(left)
    assert runs._done(tmp_path) is None
    with pytest.raises(BenchError, match=rf"{TASK_FILE} is damaged .* remove it"):
        _read(tmp_path / TASK_FILE)


def digits(noise: int = 0) -> Dataset:
    """scikit-learn's digits, 30 of each to train on and 20 to test; `noise` replaces the test images."""
    train_x, train_y = scans_of(range(10), 30)
    test_x, test_y = scans_of(range(10), 20, skip=30)
    if noise:
        test_x = np.random.default_rng(noise).integers(256, size=test_x.shape, dtype=np.uint8)
    return Dataset(train_x=train_x, train_y=train_y, test_x=test_x, test_y=test_y, names=tuple(map(str, range(10))))


def protocol(data: Dataset, **changes: object) -> Protocol:
    values: dict[str, object] = {
        "data": "digits",
        "digest": digest(data),
        "classes": 6,
        "base": 2,
        "step": 2,
        "epochs": "2",
        "model": ModelConfig(backbone="resnet8", input_size=8, channels=1),
        "training": TrainingConfig(batch_size=16, augmentation="crop", copies=1, threads=1),
        "memory": MemoryConfig(kind="total", size=12),
    }
    return Protocol(**(values | changes))  # type: ignore[arg-type]


def plan(data: Dataset, asked: str = "icarl", seed: int = 1, **changes: object) -> Plan:
    asked_for = protocol(data, **changes)
    tasks = orders.stream(orders.order(seed, 10), base=asked_for.base, step=asked_for.step, total=asked_for.classes)
    return Plan(asked=asked, seed=seed, protocol=asked_for, tasks=tasks)


def go(folder: Path, wanted: Plan, data: Dataset) -> Run:
    folder.mkdir(parents=True, exist_ok=True)
    return run(wanted, data, folder, lambda *_: None)


def _run_until(wanted: Plan, data: Dataset, folder: Path, end: tuple[int, str, int]) -> None:
    """Run, writing a checkpoint after each epoch, until the task, the stage and the epoch in which it is killed."""
    runs.CHECKPOINT_INTERVAL_S = 0

    def progress(*at: object) -> None:
        if at[:3] == end:
            os.kill(os.getpid(), signal.SIGKILL)

    run(wanted, data, folder, progress)


def figures(found: Run) -> list[object]:
    return [(task.scores, task.totals, task.exemplars) for task in found.tasks]


Whole = Callable[..., tuple[Path, Run]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """whole(asked, epochs="2"): a run that nothing disturbs, and its folder; made once for all that look at it."""
    data = digits()

    @functools.cache
    def make(asked: str, epochs: str = "2") -> tuple[Path, Run]:
        folder = tmp_path_factory.mktemp("whole")
        return folder, go(folder, plan(data, asked, epochs=epochs), data)

    return make


@pytest.mark.parametrize("asked", ["icarl", "lucir", "bic", "foster", "joint", "ranpac", "icarl+collage_resized@knn"])
def test_a_run_measures_every_class_seen_by_every_rule_after_each_task(asked: str, tmp_path: Path) -> None:
    data = digits()
    told: list[tuple[int, bool]] = []
    wanted = plan(data, asked)
    (expected,) = work.of_runs([wanted], data, tmp_path).values()
    found = run(wanted, data, tmp_path, lambda *_: None, lambda task, ran: told.append((task.number, ran)))
    assert told == [(1, True), (2, True), (3, True)]
    # Beside what it trains on, a task computes features of its images and of the test images. BiC sets a tenth aside.
    trained_on = [whole - (60 + 20 * task.classes) / 3 for whole, task in zip(expected, found.tasks, strict=True)]
    assert trained_on == pytest.approx([task.images for task in found.tasks], rel=0.1 if asked == "bic" else 1e-6)
    assert [task.class_counts for task in found.tasks] == [(2,), (2, 2), (2, 2, 2)]
    for task in found.tasks:
        assert task.totals == (20,) * task.classes
        assert set(task.scores) == {"head", "nme"} | ({"knn"} if "@" in asked else set())
        assert all(len(scores.hits) == task.classes for scores in task.scores.values())
        assert all(
            hit <= five for scores in task.scores.values() for hit, five in zip(scores.hits, scores.hits5, strict=True)
        )
    if asked == "joint":
        assert [task.exemplars for task in found.tasks] == [60, 120, 180]
    elif asked != "ranpac":
        assert [task.exemplars for task in found.tasks] == [12, 12, 12]
    assert Run.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_a_run_that_is_killed_goes_on_and_gives_the_same_figures(whole: Whole, tmp_path: Path) -> None:
    data = digits()
    wanted = plan(data, "lucir", epochs="6")
    child = fork(go, tmp_path / "killed", wanted, data)
    first = task_folder(tmp_path / "killed", wanted, 1) / "phase.json"
    until(first.exists, "the first task")
    child.kill()
    child.join()
    assert not (task_folder(tmp_path / "killed", wanted, 3) / "phase.json").exists()
    assert figures(go(tmp_path / "killed", wanted, data)) == figures(whole("lucir", "6")[1])


@pytest.mark.parametrize(
    ("asked", "number", "stage", "epoch"),
    [
        ("lucir", 1, "train", 2),
        ("~icarl", 2, "train", 2),
        ("bic", 3, "train", 2),
        ("lucir", 2, "rebalance", 1),
        # Four epochs of boosting, three of compression.
        ("foster", 2, "train", 3),
        ("foster", 2, "train", 4),
        ("foster", 3, "train", 6),
    ],
)
def test_a_run_that_is_killed_within_a_training_goes_on_to_the_same_bits(
    asked: str, number: int, stage: str, epoch: int, whole: Whole, tmp_path: Path
) -> None:
    data = digits()
    wanted = plan(data, asked, epochs="4")
    undisturbed, _ = whole(asked, "4")
    killed = tmp_path / "killed"
    killed.mkdir()
    child = fork(_run_until, wanted, data, killed, (number, stage, epoch))
    child.join()
    assert child.exitcode == -signal.SIGKILL
    # Little enough to be copied: one checkpoint, the newest memory and version, and the first training that runs share.
    counts = {name: len(list(killed.rglob(name))) for name in (INPUTS_FILE, CHECKPOINT_FILE, MEMORY_FILE, "graph.onnx")}
    finished = number - 1
    assert counts == {
        INPUTS_FILE: 0,
        CHECKPOINT_FILE: 1,
        MEMORY_FILE: min(finished, 1),
        "graph.onnx": 2 * min(finished, 1),
    }
    moved = killed.rename(tmp_path / "moved")
    seen: list[tuple[int, str, int]] = []
    run(wanted, data, moved, lambda *at: seen.append(at[:3]))
    assert seen[0] == (number, stage, epoch + 1 if stage == "train" else epoch)
    assert not list(moved.rglob(CHECKPOINT_FILE))
    last = task_folder(Path(), wanted, 3)
    for name in ("candidate/weights.safetensors", "candidate/head.safetensors", "memory.safetensors"):
        assert (moved / last / name).read_bytes() == (undisturbed / last / name).read_bytes()


def test_a_first_task_that_was_trained_for_another_method_gives_the_same_figures(whole: Whole, tmp_path: Path) -> None:
    data = digits()
    _, alone = whole("lucir")
    go(tmp_path / "after", plan(data, "lucir_no_balance"), data)
    after = go(tmp_path / "after", plan(data, "lucir"), data)
    assert len(list((tmp_path / "after" / "trained").glob("*.lock"))) == 1
    assert figures(after) == figures(alone)
    assert after.tasks[0].images == alone.tasks[0].images > 0
    plans = [plan(data, "lucir"), plan(data, "lucir_no_balance")]
    first = [tasks[0] for tasks in work.of_runs(plans, data, tmp_path).values()]
    assert first == [pytest.approx(120 + 100 / 3), pytest.approx(100 / 3)]


def test_a_first_task_that_was_trained_for_another_protocol_gives_the_same_figures(
    whole: Whole, tmp_path: Path
) -> None:
    data, trained = digits(), tmp_path / "trained"
    alone = [whole(asked)[1] for asked in ("finetune", "ranpac_blocks")]
    go(tmp_path / "one", replace(plan(data, "ranpac", step=4), trained=trained), data)
    (result,) = trained.glob("*/result.json")
    written = result.stat().st_mtime_ns
    shared = ("finetune", "ranpac_blocks")
    two = [go(tmp_path / "two", replace(plan(data, asked), trained=trained), data) for asked in shared]
    assert list(map(figures, two)) == list(map(figures, alone))
    assert [file.stat().st_mtime_ns for file in trained.glob("*/result.json")] == [written]
    assert not list(trained.rglob("statistics.safetensors"))


def test_a_first_task_is_not_shared_where_it_would_train_differently(tmp_path: Path) -> None:
    data = digits()
    lucir, wa = methods.load("lucir"), methods.load("wa")

    def first_training(method: Method, seed: int, asked: Protocol) -> str:
        training = asked.trained_with(method, seed)
        return spec.first_training(method.configured(MethodConfig(), training), training, asked)

    keys = {
        first_training(method, seed, asked)
        for method, seed, asked in (
            (lucir, 1, protocol(data)),
            (methods.load("icarl"), 1, protocol(data)),
            (lucir, 2, protocol(data)),
            (lucir, 1, protocol(data, per_class=5)),
            (lucir, 1, protocol(data, base=3)),
            (lucir, 1, protocol(data, training=replace(protocol(data).training, schedule="knee"))),
            (wa, 1, protocol(data)),
            (replace(wa, head=replace(wa.head, non_negative=False)), 1, protocol(data)),
        )
    }
    assert len(keys) == 8
    analytic = {first_training(methods.load(name), 1, protocol(data)) for name in ("acil", "ds_al", "acil_blocks")}
    assert len(analytic) == 1
    assert not analytic & keys


def test_runs_in_progress_still_find_their_first_training() -> None:
    """Where this name changes, a run of hours that was begun before trains its first task again."""
    asked = Protocol(
        data="cifar100",
        digest="95d9735faddd6cebdfb720c1a1f2dfa8b1c47a6855c2d3cc1bd5f8df503f970b",
        classes=100,
        base=50,
        step=10,
    )
    training = asked.trained_with(methods.load("icarl"), 1993)
    assert spec.first_training(methods.configured(MethodConfig(name="icarl"), training), training, asked) == (
        "ea984f0cfe175a38"
    )


@pytest.mark.parametrize("asked", ["eeil", "wa", "~lucir"])
def test_methods_run_by_another_schedule(asked: str, tmp_path: Path) -> None:
    data = digits()
    own = plan(data, asked, epochs="8", classes=4)
    training = replace(own.protocol.training, schedule="knee")
    wanted = replace(own, protocol=replace(own.protocol, training=training))
    found = go(tmp_path, wanted, data)
    if asked == "wa":
        assert figures(found) == figures(go(tmp_path / "again", wanted, data))
    assert figures(found) != figures(go(tmp_path / "own", own, data))
    assert sum(found.tasks[1].scores["nme"].hits) > 40  # of 80


def test_no_test_image_is_seen_by_anything_that_learns(whole: Whole, tmp_path: Path) -> None:
    data, other = digits(), digits(noise=7)
    folder, found = whole("icarl")
    # The digest is told, so that both runs are of one protocol: only the test images differ.
    wanted = replace(plan(other), protocol=protocol(other, digest=digest(data)))
    assert wanted == plan(data)
    assert figures(go(tmp_path, wanted, other)) != figures(found)
    homes = [task_folder(one, wanted, 3) for one in (folder, tmp_path)]
    for name in ("candidate/weights.safetensors", "candidate/head.safetensors", "memory.safetensors"):
        assert (homes[0] / name).read_bytes() == (homes[1] / name).read_bytes()


def test_a_fixed_total_shrinks_each_class_from_the_end(tmp_path: Path) -> None:
    data = digits()
    wanted, kept = plan(data), {}

    def progress(number: int, *_: object) -> None:
        if number > 1:
            kept[number - 1] = Memory.read(task_folder(tmp_path, wanted, number - 1))

    run(wanted, data, tmp_path, progress)
    assert np.array_equal(kept[2].x[kept[2].y == 0], kept[1].x[kept[1].y == 0][:3])


def test_two_processes_leave_a_run_to_the_first(tmp_path: Path) -> None:
    data = digits()
    wanted = plan(data)
    home = tmp_path / "runs" / wanted.name
    home.mkdir(parents=True)
    with _alone(home / "lock"), pytest.raises(Busy, match="worked on"):
        go(tmp_path, wanted, data)


def test_epochs_are_each_methods_own_a_number_or_a_share(tmp_path: Path) -> None:
    data, lucir = digits(), methods.load("lucir")
    assert protocol(data, epochs="").trained_with(lucir, 1).epochs is None
    assert protocol(data, epochs="7").trained_with(lucir, 1).epochs == 7
    assert protocol(data, epochs="10%").trained_with(lucir, 1).base_epochs == 16
    for wrong in ("0", "-1", "ten", "%"):
        with pytest.raises(ValueError, match="epochs"):
            protocol(data, epochs=wrong)


def test_a_method_is_asked_for_by_name_selection_and_rule() -> None:
    asked = spec.parse("lucir+mnemonics@knn")
    assert (asked.name, asked.selection, asked.rule) == ("lucir", "mnemonics", "knn")
    for wrong in ("lucid", "lucir+best", "lucir@oracle"):
        with pytest.raises(ValueError, match="must be one of"):
            spec.parse(wrong)


def test_real_cifar_runs_where_it_lies(tmp_path: Path) -> None:
    source = os.environ.get("ACCRETE_CIFAR100", "")
    if not source:
        pytest.skip("ACCRETE_CIFAR100 does not say where CIFAR-100 lies")
    data = load(source)
    wanted = Plan(
        asked="icarl",
        seed=1993,
        protocol=replace(protocol(data, classes=4, per_class=20), model=ModelConfig()),
        tasks=orders.stream(orders.ORDER_1993, base=2, step=2, total=4),
    )
    found = go(tmp_path, wanted, data)
    assert found.labels[0] == data.names[68]
