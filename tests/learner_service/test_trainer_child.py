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
from accrete_learner_service.trainer.child import Trainer
from benchmarks.waiting import until

pytestmark = pytest.mark.integration

SCRIPT = """
import json, os, pathlib, sys, time
print(json.dumps({"stage": "ready"}), flush=True)
folder = pathlib.Path(json.loads(sys.stdin.readline()))
exec((folder / "act.py").read_text())
"""


@pytest.fixture
def trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Trainer]:
    """A child that does what the step's folder says."""
    (tmp_path / "acting_trainer.py").write_text(SCRIPT)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    child = Trainer(nice=5, module="acting_trainer")
    yield child
    child.kill()


def folder(tmp_path: Path, act: str) -> Path:
    (tmp_path / "act.py").write_text(act)
    return tmp_path


def nothing() -> None: ...


def test_progress_is_passed_on(trainer: Trainer, tmp_path: Path):
    told: list[Progress] = []
    act = 'print("hello"); print(json.dumps({"stage": "train", "done": 1, "total": 2, "loss": 0.5}))'
    trainer.run(folder(tmp_path, act), told.append, nothing)
    assert told == [Progress(stage="train", done=1, total=2, loss=0.5)]


def test_a_step_that_is_done_does_not_wait_for_the_trainers_end(trainer: Trainer, tmp_path: Path):
    act = 'print(json.dumps({"stage": "done"}), flush=True); time.sleep(20); sys.exit(3)'
    trainer.run(folder(tmp_path, act), print, nothing)


def test_before_the_next_trainer_starts_the_one_before_is_gone(trainer: Trainer, tmp_path: Path):
    trainer.stand_by()
    before = trainer.pid
    assert before is not None
    trainer.run(folder(tmp_path, 'print(json.dumps({"stage": "done"}), flush=True); time.sleep(60)'), print, nothing)
    trainer.stand_by()
    assert trainer.pid not in (None, before)
    with pytest.raises(ProcessLookupError):
        os.kill(before, 0)


def test_a_failed_step_says_the_trainers_reason(trainer: Trainer, tmp_path: Path):
    act = 'print(json.dumps({"stage": "error", "reason": "out of memory"})); sys.exit(3)'
    with pytest.raises(TrainerFailed, match=r"^out of memory$"):
        trainer.run(folder(tmp_path, act), print, nothing)


def test_a_crash_is_explained_by_its_last_words(trainer: Trainer, tmp_path: Path):
    with pytest.raises(TrainerFailed, match="exit code 1: ZeroDivisionError"):
        trainer.run(folder(tmp_path, "1 / 0"), print, nothing)


def test_a_killed_trainer_is_named_as_such(trainer: Trainer, tmp_path: Path):
    with pytest.raises(TrainerFailed, match="killed by signal 9"):
        trainer.run(folder(tmp_path, "os.kill(os.getpid(), 9)"), print, nothing)


def test_a_trainer_that_died_while_standing_by_is_replaced(trainer: Trainer, tmp_path: Path):
    trainer.stand_by()
    assert trainer.pid is not None
    os.kill(trainer.pid, signal.SIGKILL)
    while trainer.pid is not None:
        time.sleep(0.01)
    trainer.run(folder(tmp_path, "pass"), print, nothing)


def test_a_step_that_is_given_up_leaves_no_child(trainer: Trainer, tmp_path: Path):
    trainer.stand_by()
    pid = trainer.pid
    assert pid is not None

    def give_up() -> None:
        raise Interrupted("shutting down")

    with pytest.raises(Interrupted):
        trainer.run(folder(tmp_path, "time.sleep(60)"), print, give_up)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_the_child_runs_at_lowered_priority(trainer: Trainer, tmp_path: Path):
    said: list[Progress] = []
    nice = "os.getpriority(os.PRIO_PROCESS, 0)"
    act = f'print(json.dumps({{"stage": "nice", "done": {nice}, "total": 19}}))'
    trainer.run(folder(tmp_path, act), said.append, nothing)
    assert said[0].done == 5


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
def test_the_child_dies_with_a_learner_that_is_killed(tmp_path: Path):
    # Once the trainer's module runs, its life is tied to the learner's.
    (tmp_path / "idle_trainer.py").write_text(
        "import json, os, sys; os.mkdir(json.loads(sys.stdin.readline())); sys.stdin.read()"
    )
    code = (
        "from accrete_learner_service.trainer.child import Trainer; import os, sys\n"
        "def told(): print(trainer.pid, flush=True) if os.path.exists(sys.argv[1]) else None\n"
        "trainer = Trainer(nice=5, module='idle_trainer'); trainer.run(sys.argv[1], print, told)"
    )
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    command = [sys.executable, "-c", code, str(tmp_path / "step")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as learner:
        assert learner.stdout is not None
        pid = int(learner.stdout.readline())
        learner.kill()
    until(lambda: not _alive(pid), "the trainer's end")


def _alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rsplit(")", 1)[1].split()[0] != "Z"
