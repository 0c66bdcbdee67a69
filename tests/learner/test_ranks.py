"""A step over several ranks: what it learns, who may take part, and what becomes of it when one is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn
from torch._C._distributed_c10d import HashStore

from accrete_kit import cores
from accrete_learner.config import TrainingConfig
from accrete_learner.method_names import available
from accrete_learner.rank_count import check_ranks, visible_gpus
from accrete_learner.ranks import ALONE, Group, joining
from accrete_learner.ranks.batch_norm import over_group
from accrete_learner.ranks.local_exchange import CAPACITY, LocalExchange
from accrete_learner.trainer.job import INPUTS_FILE, JOB_FILE, Job
from accrete_learner_service.app import learn
from accrete_learner_service.config import LearnerServiceConfig
from accrete_storage.config import HoldoutConfig, StoreConfig
from benchmarks.waiting import until

pytestmark = pytest.mark.integration

TOGETHER = Path(__file__).with_name("together.py")
TWO = TrainingConfig(base_epochs=2, epochs=2, batch_size=33, augmentation="crop", ranks=2)
needs_two_cores = pytest.mark.skipif(cores.whole() < 2, reason="two ranks need two cores")


@cache
def differences() -> dict[str, dict[str, float]]:
    """By case and number of ranks, how far what they learn is from what one process learns."""
    ran = subprocess.run([sys.executable, "-W", "error", TOGETHER], capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stderr
    said = map(json.loads, ran.stdout.splitlines())
    return {one["case"]: one["differences"] for one in said}


@pytest.mark.parametrize("name", available())
def test_two_and_three_ranks_learn_what_one_process_learns(name: str):
    assert max(differences()[name].values()) <= 1e-10


def test_so_they_do_however_exemplars_are_made_and_a_step_is_trained():
    others = {name: max(found.values()) for name, found in differences().items() if name not in available()}
    assert len(others) == 20
    assert max(others.values()) <= 1e-10, others


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_ranks_of_one_machine_have_what_each_sent_and_notice_one_that_has_ended():
    exchange = LocalExchange(3)
    pid = os.getpid()
    rank = next((rank for rank in (1, 2) if not os.fork()), 0)
    try:
        exchange.join(rank)
        for dtype in (torch.float64, torch.bfloat16, torch.int64):
            for round_ in range(5):  # more than there are buffers
                got = exchange.gathered(torch.full((2, 3), 10 * round_ + rank, dtype=dtype), 60)
                assert got.tolist() == [[10 * round_ + one] * 3 for one in (0, 0, 1, 1, 2, 2)]
                assert got.dtype == dtype
                rows = exchange.rows(np.array([[rank, 7.5]]), 60)
                assert rows.tolist() == [[[one, 7.5]] for one in range(3)]
        many = torch.arange(CAPACITY // 8 + 3, dtype=torch.int64) * (rank + 1)  # more than fit at a time
        exchange.add_up(many, 60)
        assert torch.equal(many, 6 * torch.arange(len(many)))
        if rank:
            os._exit(0)
        assert [os.waitpid(-1, 0)[1] for _ in range(2)] == [0, 0]
        with pytest.raises(RuntimeError, match="rank 1 has ended"):
            exchange.gathered(torch.ones(1), 60)
    finally:
        if os.getpid() != pid:
            os._exit(1)
        exchange.close()
    assert not exchange.takes(torch.zeros(CAPACITY // 8 + 1, dtype=torch.float64))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize(("dtype", "apart"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
def test_two_ranks_normalise_as_one_does_in_the_types_that_steps_use(
    dtype: torch.dtype, apart: float, layout: torch.memory_format
):
    """Shares of different sizes, and channels whose mean is far from zero."""
    generator = torch.Generator().manual_seed(1)
    x, gradient = (torch.randn(5, 3, 4, 6, generator=generator) + shift for shift in (2.0, 0.5))
    x, gradient = (one.to(dtype).to(memory_format=layout) for one in (x, gradient))
    alone, shared = (nn.BatchNorm2d(3) for _ in range(2))
    exchange, pid = LocalExchange(2), os.getpid()
    rank = 0 if os.fork() else 1
    try:
        exchange.join(rank)
        group = Group(rank, 2, local=exchange)
        found = []
        for module, rows in ((alone, slice(None)), (shared, group.shard(len(x)).rows)):
            with over_group(nn.Sequential(module), group if module is shared else ALONE):
                own = x[rows].clone(memory_format=torch.preserve_format).requires_grad_()
                y = module(own)
                y.backward(gradient[rows])
                found.append((y.detach(), own.grad))
        rows = group.shard(len(x)).rows
        for whole, part in zip(*found, strict=True):
            torch.testing.assert_close(part, whole[rows], atol=apart, rtol=apart)
        torch.testing.assert_close(shared.state_dict(), alone.state_dict())
        gradients, wanted = (
            [one.grad for one in module.parameters() if one.grad is not None] for module in (shared, alone)
        )
        group.add_up(*gradients)
        torch.testing.assert_close(gradients, wanted, atol=10 * apart, rtol=apart)
        if rank:
            os._exit(0)
        assert os.waitpid(-1, 0)[1] == 0
    finally:
        if os.getpid() != pid:
            os._exit(1)
        exchange.close()


def test_ranks_of_other_software_are_refused():
    store = HashStore()
    with ThreadPoolExecutor(2) as pool:
        told = [pool.submit(joining._compare, store, rank, 2, f"accrete 0.{rank}.0") for rank in range(2)]
        for future in told:
            with pytest.raises(
                ValueError, match=r"training.ranks = 2: rank 1 runs accrete 0.1.0, the first one accrete"
            ):
                future.result()


def test_more_ranks_than_devices_are_refused():
    most = cores.whole()
    check_ranks(TrainingConfig(ranks=most), gpus=0)
    with pytest.raises(ValueError, match=f"training.ranks = {most + 1}: each rank needs a core of its own"):
        check_ranks(TrainingConfig(ranks=most + 1), gpus=0)
    check_ranks(TrainingConfig(ranks=500), gpus=500)
    with pytest.raises(ValueError, match="training.ranks = 500: .* GPU .* may use 2 GPUs here"):
        check_ranks(TrainingConfig(ranks=500), gpus=2)
    with pytest.raises(ValueError, match="training.ranks = 500: .* core"):
        check_ranks(TrainingConfig(ranks=500, device="cpu"), gpus=500)


def test_a_learner_with_too_few_devices_does_not_start(tmp_path: Path):
    config = LearnerServiceConfig(training=TrainingConfig(ranks=1024))
    with pytest.raises(ValueError, match="training.ranks = 1024: each rank needs"):
        learn(config, StoreConfig(), HoldoutConfig(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_gpus_are_those_that_the_process_may_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_gpus(tmp_path) == 2
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert visible_gpus(tmp_path) == 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_gpus(tmp_path) == 0


def begin(trainer: subprocess.Popen[str], folder: Path) -> None:
    assert trainer.stdin is not None
    trainer.stdin.write(f"{json.dumps(str(folder))}\n")
    trainer.stdin.flush()


def said(trainer: subprocess.Popen[str], *stages: str) -> dict[str, Any]:
    """Reads on until it says one of these."""
    assert trainer.stdout is not None
    for line in trainer.stdout:
        if (event := dict(json.loads(line)))["stage"] in stages:
            return event
    raise AssertionError("it ended")


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(scope="module")
def trainer(start_trainer: Callable[[], subprocess.Popen[str]]) -> Iterator[subprocess.Popen[str]]:
    process = start_trainer()
    yield process
    process.kill()
    process.communicate()


@needs_two_cores
def test_a_trainers_ranks_leave_the_files_that_one_process_leaves(
    trainer: subprocess.Popen[str], write_step: Callable[..., Job], tmp_path: Path
):
    folders = {ranks: tmp_path / str(ranks) for ranks in (1, 2)}
    for ranks, folder in folders.items():
        write_step(folder, classes=2, training=replace(TWO, ranks=ranks))
        begin(trainer, folder)
        assert said(trainer, "done", "error") == {"stage": "done"}
    one, two = ({path.relative_to(folder) for path in folder.rglob("*")} for folder in folders.values())
    assert one == two
    first, second = (load_file(folder / "candidate" / "head.safetensors")["weight"] for folder in folders.values())
    np.testing.assert_allclose(first, second, atol=1e-3)


@needs_two_cores
def test_a_lost_rank_is_told_at_once_and_the_next_attempt_is_like_any_other(
    trainer: subprocess.Popen[str], write_step: Callable[..., Job], tmp_path: Path
):
    job = write_step(tmp_path, classes=2, training=replace(TWO, base_epochs=5000))
    begin(trainer, tmp_path)
    step = said(trainer, "begun")["pid"]
    said(trainer, "train")
    (rank,) = children(step)
    os.kill(rank, signal.SIGKILL)
    assert said(trainer, "error", "done")["reason"] == "rank 1 of training.ranks = 2 was killed by signal 9"
    assert {path.name for path in tmp_path.iterdir()} == {JOB_FILE, INPUTS_FILE}
    replace(job, training=TWO).write(tmp_path)
    begin(trainer, tmp_path)
    assert said(trainer, "error", "done") == {"stage": "done"}


@needs_two_cores
def test_what_fails_on_every_rank_is_told_once(
    trainer: subprocess.Popen[str], write_step: Callable[..., Job], tmp_path: Path
):
    write_step(tmp_path, classes=2, arrays={"new_y": np.full(80, 9)}, training=TWO)
    for _ in range(2):
        begin(trainer, tmp_path)
        assert said(trainer, "error", "done")["reason"] == "new_y has a class outside 0 to 1"
        assert said(trainer, "ready", "error", "done") == {"stage": "ready"}


def test_a_trainer_with_too_few_cores_says_so(
    trainer: subprocess.Popen[str], write_step: Callable[..., Job], tmp_path: Path
):
    write_step(tmp_path, classes=2, training=replace(TWO, ranks=cores.whole() + 1, device="cpu"))
    begin(trainer, tmp_path)
    assert said(trainer, "error", "done")["reason"].startswith(f"training.ranks = {cores.whole() + 1}: each rank needs")


@needs_two_cores
def test_no_rank_outlives_its_trainer(trainer: subprocess.Popen[str], write_step: Callable[..., Job], tmp_path: Path):
    write_step(tmp_path, classes=2, training=replace(TWO, base_epochs=5000))
    begin(trainer, tmp_path)
    step = said(trainer, "begun")["pid"]
    said(trainer, "train")
    gone = [step, *children(step)]
    assert len(gone) == 2
    trainer.kill()
    until(lambda: not any(map(is_running, gone)))
