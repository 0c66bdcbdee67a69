"""What a person sees of a protocol: how far it is, what it came to."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from accrete.cli.output import duration
from accrete_kit.atomic_file import write_text

if TYPE_CHECKING:
    from accrete_experiments.protocols.results import Run


class Display:
    """Writes to a terminal with bars, and to anything else in plain lines."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)

    def say(self, text: str) -> None:
        """A line or more."""
        self.console.print(text, soft_wrap=True, markup=False)

    def finished(self, run: Run) -> None:
        """One line of a run that is done."""
        from accrete_experiments.protocols import measures

        figures = [
            f"{rule} {_percent(measures.average_incremental(run, rule))} avg {_percent(measures.last(run, rule))} last"
            for rule in measures.rules(run)
        ]
        self.say(f"{run.method}, seed {run.seed}: {'; '.join(figures)}")

    @contextmanager
    def runs(self, tasks: int, file: Path) -> Iterator[Bar | Lines]:
        """Yield what shows how far all tasks of all runs are: bars on a terminal, else lines.

        Args:
            tasks: of all runs.
            file: where a line of it is kept meanwhile, for whoever looks into the folder.
        """
        if not self.console.is_terminal:
            yield Lines(self.say, tasks, file)
            return
        progress = Progress(
            TextColumn("{task.description:<44}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
        )
        with progress:
            yield Bar(progress, Lines(lambda _: None, tasks, file), tasks)


class Lines:
    """A line for each stage of a task, and at every tenth of it, with the time that all of it will still take."""

    def __init__(
        self, say: Callable[[str], None], tasks: int, file: Path, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Say nothing yet.

        Args:
            say: writes a line.
            tasks: of all runs.
            file: is written with each line.
            clock: seconds that grow.
        """
        self._say = say
        self._tasks = tasks
        self._file = file
        self._clock = clock
        self._began_s = clock()
        self._done = 0
        self._skipped = 0
        self._told: tuple[str, int, str] = ("", 0, "")
        self._tenth = -1

    def progress(self, name: str) -> Callable[[int, str, int, int, float], None]:
        """Return what a run is given to tell how far it is."""

        def tell(number: int, stage: str, done: int, total: int, loss: float) -> None:
            at, tenth = (name, number, stage), 10 * done // max(1, total)
            if at == self._told and tenth == self._tenth:
                return
            self._told, self._tenth = at, tenth
            share = _share(stage, done, total)
            text = f"{name}, task {number}: {stage} {done} of {total}"
            text += f", loss {loss:.3f}" if math.isfinite(loss) else ""
            left = self._left(self._done + number - 1 + share)
            self._say(f"{text}{left}")
            write_text(self._file, f"{text}{left}\n")

        return tell

    def skip(self, tasks: int, *, ran: bool = True) -> None:
        """So many tasks are over, or were before."""
        self._done += tasks
        self._skipped += 0 if ran else tasks

    def _left(self, done: float) -> str:
        """Return the time left by the pace so far, of what this process did."""
        mine = done - self._skipped
        if mine <= 0:
            return ""
        left_s = (self._clock() - self._began_s) / mine * (self._tasks - done)
        return f"; about {duration(round(left_s * 1000))} left of {self._tasks} tasks"


class Bar:
    """The two bars of a protocol."""

    def __init__(self, progress: Progress, lines: Lines, tasks: int) -> None:
        self._lines = lines
        self._progress = progress
        self._all: TaskID = progress.add_task("tasks", total=tasks, note="")
        self._stage: TaskID = progress.add_task("", total=None, note="")
        self._done = 0
        self._at = ""

    def progress(self, name: str) -> Callable[[int, str, int, int, float], None]:
        """Return what a run is given to tell how far it is."""
        also = self._lines.progress(name)

        def tell(number: int, stage: str, done: int, total: int, loss: float) -> None:
            also(number, stage, done, total, loss)
            at = f"{name}, task {number}: {stage}"
            if at != self._at:
                self._progress.reset(self._stage, description=at, total=total)
                self._at = at
            self._progress.update(self._all, completed=self._done + number - 1 + _share(stage, done, total))
            self._progress.update(self._stage, completed=done, total=total, note=f"loss {loss:.3f}")

        return tell

    def skip(self, tasks: int, *, ran: bool = True) -> None:
        """So many tasks are over, or were before."""
        self._lines.skip(tasks, ran=ran)
        self._done += tasks
        self._progress.update(self._all, completed=self._done)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def _share(stage: str, done: int, total: int) -> float:
    """Return how much of a task is done, or nothing would be known of the time left until the first is over."""
    return 0.9 * done / total if stage == "train" and total else 0.9
