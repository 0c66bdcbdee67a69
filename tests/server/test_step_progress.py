"""How far a step is, and how long its stage still takes, from the events alone."""

from __future__ import annotations

from typing import Any

from accrete_server.operate.step_progress import Reached, StepProgress
from accrete_storage.events import StoredEvent


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def event(seconds: float, kind: str, **body: Any) -> StoredEvent:
    return StoredEvent(id=f"{seconds}-0", time_ms=round(seconds * 1000), kind=kind, body=body)


def progress(seconds: float, done: int, total: int = 10, stage: str = "train") -> StoredEvent:
    return event(seconds, "progress", version=2, stage=stage, done=done, total=total, loss=0.5)


def reached(steps: StepProgress) -> tuple[str, int, int]:
    found = steps.reached()
    assert isinstance(found, Reached)
    return found.body["stage"], found.body["done"], found.left_ms


def test_the_time_left_is_by_the_pace_so_far_less_what_has_passed_since():
    clock = Clock()
    steps = StepProgress(clock)
    assert steps.reached() is None
    steps.note([event(100, "phase", phase="training"), progress(104, 1)])
    assert reached(steps) == ("train", 1, 36_000)
    steps.note([progress(120, 5)])
    assert reached(steps) == ("train", 5, 20_000)
    clock.now = 3
    assert reached(steps) == ("train", 5, 17_000)
    clock.now = 100
    assert reached(steps) == ("train", 5, 0)


def test_each_stage_has_its_own_pace_and_the_end_of_a_step_ends_it():
    steps = StepProgress(Clock())
    steps.note([event(0, "phase", phase="training"), progress(100, 10), progress(101, 1, stage="rebalance")])
    assert reached(steps) == ("rebalance", 1, 9_000)
    for kind in ("committed", "rejected", "failed", "discarded", "phase"):
        steps.note([progress(200, 1)])
        assert steps.reached() is not None
        steps.note([event(201, kind)])
        assert steps.reached() is None


def test_a_server_that_comes_into_the_middle_knows_the_pace_from_the_second_event_on():
    steps = StepProgress(Clock())
    steps.note([progress(100, 4)])
    assert reached(steps) == ("train", 4, 0)
    steps.note([progress(106, 6)])
    assert reached(steps) == ("train", 6, 12_000)
