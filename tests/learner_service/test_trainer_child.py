"""The child that trains: followed, killed, and explained."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from accrete_learner_service.errors import Interrupted, TrainerFailed
from accrete_learner_service.runtime.status import Progress
from accrete_learner_service.trainer import child
from accrete_learner_service.trainer.child import Trainer
from benchmarks.waiting import until

pytestmark = pytest.mark.integration

SCRIPT = """
import json, os, sys, time
from accrete_learner.trainer.standby import stand_by
sys.exit(stand_by(lambda folder, reporter: exec((folder / "act.py").read_text())))
"""


@pytest.fixture
def trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Trainer]:
    """A child that does what the step's folder says."""
    (tmp_path / "acting_trainer.py").write_text(SCRIPT)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    made = Trainer(nice=17, module="acting_trainer")
    yield made
    made.kill()


def folder(tmp_path: Path, act: str) -> Path:
    (tmp_path / "act.py").write_text(act)
    return tmp_path


def nothing() -> None: ...


def test_progress_is_passed_on(trainer: Trainer, tmp_path: Path):
    told: list[Progress] = []
    act = 'print("hello"); reporter.progress("train", 1, 2, 0.5)'
    trainer.run(folder(tmp_path, act), told.append, nothing)
    assert told == [Progress(stage="train", done=1, total=2, loss=0.5)]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (None, "glibc.malloc.hugetlb=1"),
        ("glibc.malloc.mmap_max=9", "glibc.malloc.mmap_max=9:glibc.malloc.hugetlb=1"),
        ("glibc.malloc.hugetlb=0", "glibc.malloc.hugetlb=0"),
    ],
)
def test_it_allocates_in_large_pages_unless_told_otherwise(
    trainer: Trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str | None, found: str
):
    if given is None:
        monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    else:
        monkeypatch.setenv("GLIBC_TUNABLES", given)
    notes: list[str] = []
    trainer.run(folder(tmp_path, 'reporter.note(os.environ["GLIBC_TUNABLES"])'), print, nothing, notes.append)
    assert notes == [found]


def test_what_people_should_know_is_passed_on(trainer: Trainer, tmp_path: Path):
    notes: list[str] = []
    trainer.run(folder(tmp_path, 'reporter.note("9 epochs fit")'), print, nothing, notes.append)
    assert notes == ["9 epochs fit"]


def test_a_step_without_processor_time_says_so(trainer: Trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(child, "STARVED_S", 0.5)
    notes: list[str] = []

    def enough() -> None:
        if notes:
            raise Interrupted("it was said")

    with pytest.raises(Interrupted):
        trainer.run(folder(tmp_path, "time.sleep(60)"), print, enough, notes.append)
    assert "other processes take it" in notes[0]
    busy = "until = time.monotonic() + 1.5\nwhile time.monotonic() < until: pass"
    trainer.run(folder(tmp_path, busy), print, nothing, notes.append)
    assert len(notes) == 1


def test_the_steps_of_one_trainer_have_a_process_each_and_it_goes_on_after_one_that_failed(
    trainer: Trainer, tmp_path: Path
):
    trainer.stand_by()
    standing_by = trainer.pid
    for act, failure in (
        ("", ""),
        ('raise ValueError("too many")', "too many"),
        ("1 / 0", "ZeroDivisionError: "),
        ("", ""),
    ):
        remember = '(folder / "steps").open("a").write(f"{os.getpid()} {os.getppid()}\\n");'
        if failure:
            with pytest.raises(TrainerFailed, match=f"^{failure}"):
                trainer.run(folder(tmp_path, remember + act), print, nothing)
        else:
            trainer.run(folder(tmp_path, remember + act), print, nothing)
    pids = [line.split() for line in (tmp_path / "steps").read_text().splitlines()]
    assert {parent for _, parent in pids} == {str(standing_by)}
    assert len({step for step, _ in pids} - {str(standing_by)}) == 4
    assert trainer.pid == standing_by


def test_before_the_next_step_begins_the_one_before_is_gone(trainer: Trainer, tmp_path: Path):
    """Also one that takes long to end after it has said that all is written, for which nothing waits."""
    act = 'reporter.say("done"); (folder / "pid").write_text(str(os.getpid())); time.sleep(1); os._exit(0)'
    trainer.run(folder(tmp_path, act), print, nothing)
    trainer.run(folder(tmp_path, 'assert not os.path.exists("/proc/" + (folder / "pid").read_text())'), print, nothing)


def test_a_crash_is_explained_by_its_last_words(trainer: Trainer, tmp_path: Path):
    act = 'print("no memory", file=sys.stderr); os._exit(7)'
    with pytest.raises(TrainerFailed, match="exit code 7: no memory"):
        trainer.run(folder(tmp_path, act), print, nothing)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
@pytest.mark.parametrize("which", ["getpid", "getppid"])
def test_a_killed_trainer_is_named_as_such_and_replaced(
    trainer: Trainer, tmp_path: Path, which: str, number: signal.Signals
):
    with pytest.raises(TrainerFailed, match=f"killed by signal {number:d}"):
        trainer.run(folder(tmp_path, f"os.kill(os.{which}(), {number:d}); time.sleep(60)"), print, nothing)
    trainer.run(folder(tmp_path, "pass"), print, nothing)


def test_a_trainer_that_died_while_standing_by_is_replaced(trainer: Trainer, tmp_path: Path):
    trainer.stand_by()
    assert trainer.pid is not None
    os.kill(trainer.pid, signal.SIGKILL)
    while trainer.pid is not None:
        time.sleep(0.01)
    trainer.run(folder(tmp_path, "pass"), print, nothing)


def test_a_step_that_is_given_up_leaves_no_child(trainer: Trainer, tmp_path: Path):
    trainer.stand_by()
    standing_by, step = trainer.pid, tmp_path / "pid"
    assert standing_by is not None

    def give_up() -> None:
        if step.exists() and step.read_text():
            raise Interrupted("shutting down")

    with pytest.raises(Interrupted):
        trainer.run(folder(tmp_path, '(folder / "pid").write_text(str(os.getpid())); time.sleep(60)'), print, give_up)
    assert not _alive(standing_by)
    # Its pipes are closed, which is what is waited for, an instant before the kernel is done with it.
    until(lambda: not _alive(int(step.read_text())), "the end of the step's process")


def test_the_child_runs_at_lowered_priority(trainer: Trainer, tmp_path: Path):
    said: list[Progress] = []
    act = 'reporter.progress("nice", os.getpriority(os.PRIO_PROCESS, 0), 19, 0.0)'
    trainer.run(folder(tmp_path, act), said.append, nothing)
    assert said[0].done == 17


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
def test_the_child_dies_with_a_learner_that_is_killed(tmp_path: Path):
    (tmp_path / "idle_trainer.py").write_text(SCRIPT)
    (tmp_path / "act.py").write_text('(folder / "pid").write_text(f"{os.getppid()} {os.getpid()}"); time.sleep(600)')
    code = (
        "from accrete_learner_service.trainer.child import Trainer; import pathlib, sys\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "Trainer(nice=17, module='idle_trainer').run(folder, print, lambda: None)"
    )
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], env=env) as learner:
        pids = until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().split(), "the step")
        learner.kill()
    until(lambda: not any(_alive(int(pid)) for pid in pids), "the end of trainer and step")


def _alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rsplit(")", 1)[1].split()[0] != "Z"
