"""What a protocol says of how far it is where there is no terminal."""

from __future__ import annotations

import io
import math
from pathlib import Path

from rich.console import Console

from accrete_experiments.bench.display import Display, Lines
from accrete_experiments.protocols.results import Scores, Task


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def task(number: int) -> Task:
    """Half of the first of ten classes' test images are found by the head, a quarter by the means."""
    scores = {rule: Scores(hits=(hits,), hits5=(hits,)) for rule, hits in (("head", 50), ("nme", 25))}
    return Task(
        number=number, class_counts=(1,), totals=(100,), scores=scores, exemplars=0, images=0, seconds={"train": 1.0}
    )


def test_a_log_gets_a_line_for_each_stage_and_each_tenth_of_it_with_the_time_left_by_the_work_that_is_left(
    tmp_path: Path,
):
    said: list[str] = []
    clock = Clock()
    # A first task of a hundred units of work and another of ten, and two runs of one.
    work = {"lucir-1993": [100.0, 10.0], "joint-1993": [50.0], "wa-1993": [30.0]}
    lines = Lines(said.append, work, tmp_path / "progress.txt", clock=clock)
    lines.skip("joint-1993")
    tell = lines.progress("lucir-1993")
    for epoch in range(1, 21):
        clock.now += 10
        tell(1, "train", epoch, 20, 1 / epoch)
    # Nothing is known of the pace after one epoch. After the second of 4.5 units in 10 s, 131 of 190 are left.
    assert said[0] == "lucir-1993, task 1 of 2: train 1 of 20, loss 1.000"
    assert said[1] == "lucir-1993, task 1 of 2: train 2 of 20, loss 0.500; about 4 min 51 s left"
    assert len(said) == 11
    assert said[-1] == "lucir-1993, task 1 of 2: train 20 of 20, loss 0.050; about 1 min 51 s left"
    assert (tmp_path / "progress.txt").read_text() == f"{said[-1]}\n"
    lines.task_done("lucir-1993")(task(1), True)
    assert said[-1] == "lucir-1993, task 1 of 2: head 50.0, nme 25.0 of 1 classes"
    lines.progress("lucir-1993")(2, "memory", 1, 2, math.nan)
    assert said[-1] == "lucir-1993, task 2 of 2: memory 1 of 2; about 56 s left"


def test_what_was_done_before_says_nothing_about_the_pace(tmp_path: Path):
    said: list[str] = []
    clock = Clock()
    lines = Lines(said.append, {"lucir-1993": [100.0, 10.0, 10.0]}, tmp_path / "progress.txt", clock=clock)
    lines.task_done("lucir-1993")(task(1), False)
    assert said == []
    tell = lines.progress("lucir-1993")
    # From a checkpoint of 15 of 20 epochs: an epoch is 0.45 units of work, and takes 10 s.
    tell(2, "train", 16, 20, 1.0)
    clock.now += 10
    tell(2, "train", 17, 20, 1.0)
    assert said[-1] == "lucir-1993, task 2 of 3: train 17 of 20, loss 1.000; about 4 min 34 s left"


def test_without_a_terminal_there_are_lines_and_with_one_bars(tmp_path: Path):
    for is_terminal in (False, True):
        out = io.StringIO()
        console = Console(file=out, force_terminal=is_terminal, highlight=False)
        file = tmp_path / f"progress-{is_terminal}"
        with Display(console).runs({"lucir-1993": [1.0]}, file) as shown:
            shown.progress("lucir-1993")(1, "train", 1, 2, 0.5)
            assert file.read_text() == "lucir-1993, task 1 of 1: train 1 of 2, loss 0.500\n"
            shown.task_done("lucir-1993")(task(1), True)
        assert "lucir-1993, task 1 of 1: head 50.0, nme 25.0 of 1 classes" in out.getvalue()
        assert isinstance(shown, Lines) is not is_terminal
        assert out.getvalue().startswith("lucir-1993, task 1 of 1: train 1 of 2") is not is_terminal
