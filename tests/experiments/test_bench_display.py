"""What a protocol says of how far it is where there is no terminal."""

from __future__ import annotations

import io
import math
from pathlib import Path

from rich.console import Console

from accrete_experiments.bench.display import Display, Lines


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_log_gets_a_line_for_each_stage_and_each_tenth_of_it_with_the_time_left(tmp_path: Path):
    said: list[str] = []
    clock = Clock()
    lines = Lines(said.append, 4, tmp_path / "progress.txt", clock)
    lines.skip(1, ran=False)
    tell = lines.progress("lucir-1993")
    clock.now = 90
    for epoch in range(1, 21):
        tell(1, "train", epoch, 20, 1 / epoch)
    tell(1, "memory", 1, 2, math.nan)
    assert len(said) == 12
    assert said[0] == "lucir-1993, task 1: train 1 of 20, loss 1.000; about 1 h 38 min left of 4 tasks"
    assert said[10] == "lucir-1993, task 1: train 20 of 20, loss 0.050; about 3 min 30 s left of 4 tasks"
    assert said[11] == "lucir-1993, task 1: memory 1 of 2; about 3 min 30 s left of 4 tasks"
    assert (tmp_path / "progress.txt").read_text() == f"{said[11]}\n"
    lines.skip(1)
    clock.now = 200
    lines.progress("joint-1993")(1, "train", 0, 20, math.nan)
    assert said[-1] == "joint-1993, task 1: train 0 of 20; about 6 min 40 s left of 4 tasks"


def test_without_a_terminal_there_are_lines_and_with_one_bars(tmp_path: Path):
    for is_terminal in (False, True):
        out = io.StringIO()
        file = tmp_path / f"progress-{is_terminal}"
        with Display(Console(file=out, force_terminal=is_terminal)).runs(1, file) as shown:
            shown.progress("lucir-1993")(1, "train", 1, 2, 0.5)
        assert file.read_text().startswith("lucir-1993, task 1: train 1 of 2, loss 0.500")
        assert isinstance(shown, Lines) is not is_terminal
        assert out.getvalue().startswith("lucir-1993, task 1: train 1 of 2") is not is_terminal
