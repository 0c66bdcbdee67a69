"""The trainer stands still for part of the time while a server asks, and goes on when none does."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from accrete_learner_service.trainer.child import Trainer
from accrete_learner_service.trainer.throttle import LEAST_DUTY_CYCLE, TrainingThrottle, next_duty_cycle
from accrete_storage.errors import StoreUnavailable
from benchmarks.waiting import until

pytestmark = pytest.mark.integration

SCRIPT = """
import os, sys
from accrete_learner.trainer.standby import stand_by

def run(folder, reporter):
    (folder / "began").write_text(str(os.getpid()))
    while not (folder / "enough").exists():
        pass

sys.exit(stand_by(run))
"""


class Asking:
    """What servers ask, changed as the test goes on."""

    def __init__(self) -> None:
        self.now = False
        self.away = False
        self.duty_cycles: list[float] = []

    def __call__(self) -> bool:
        if self.away:
            raise StoreUnavailable("it is away")
        return self.now


@pytest.fixture
def trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Trainer]:
    (tmp_path / "busy_trainer.py").write_text(SCRIPT)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    child = Trainer(nice=19, module="busy_trainer")
    yield child
    child.kill()


@contextmanager
def running(trainer: Trainer, folder: Path) -> Iterator[int]:
    """A step under way; its process."""

    def run() -> None:
        trainer.run(folder, on_progress=lambda _: None, check=lambda: None)

    began = folder / "began"
    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield int(until(lambda: began.exists() and began.read_text()))
    finally:
        (folder / "enough").touch()
        thread.join(30)
    assert not thread.is_alive(), "the step ended"


def states(pid: int, count: int = 300) -> list[str]:
    """What the process was found doing: R runs, S sleeps, T is stopped."""
    found = []
    for _ in range(count):
        found.append(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0])
        time.sleep(0.002)
    return found


def test_the_duty_cycle_halves_while_asked_and_rises_slowly_afterwards():
    assert [next_duty_cycle(1.0, True), next_duty_cycle(0.5, True), next_duty_cycle(LEAST_DUTY_CYCLE, True)] == [
        0.5,
        0.25,
        LEAST_DUTY_CYCLE,
    ]
    assert next_duty_cycle(0.5, False) == pytest.approx(0.51)
    assert next_duty_cycle(0.995, False) == 1.0


def test_a_step_stands_still_by_turns_while_asked_and_ends_all_the_same(trainer: Trainer, tmp_path: Path):
    asking = Asking()
    throttle = TrainingThrottle(asking, trainer, asking.duty_cycles.append)
    with running(trainer, tmp_path) as pid:
        throttle.start()
        assert "T" not in states(pid)
        asking.now = True
        until(lambda: asking.duty_cycles[-1] == LEAST_DUTY_CYCLE)
        found = states(pid)
        assert "T" in found, "how often depends on what else the machine does"
        assert set(found) - {"T"}, "it is let go on"
        asking.away = True
        seen = len(asking.duty_cycles)
        until(lambda: len(asking.duty_cycles) > seen + 1)
        assert asking.duty_cycles[-1] > LEAST_DUTY_CYCLE, "who cannot be asked asks for nothing"
        asking.away = False
    throttle.stop()


def test_who_stops_to_look_leaves_the_step_running(trainer: Trainer, tmp_path: Path):
    asking = Asking()
    asking.now = True
    throttle = TrainingThrottle(asking, trainer, asking.duty_cycles.append)
    with running(trainer, tmp_path) as pid:
        throttle.start()
        until(lambda: "T" in states(pid, 5))
        throttle.stop()
        assert "T" not in states(pid)


def test_what_stands_by_is_left_alone(trainer: Trainer):
    trainer.stand_by()
    assert trainer.pid is not None
    trainer.halt()
    assert "T" not in states(trainer.pid, 20)
