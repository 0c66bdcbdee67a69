"""What a person sees of a protocol: how far it is, what it came to."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
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
)

from accrete.cli.output import duration
from accrete_kit.atomic_file import write_text

if TYPE_CHECKING:
    from accrete_experiments.protocols.results import Run, Task


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
    def runs(self, work: Mapping[str, Sequence[float]], file: Path) -> Iterator[Bar | Lines]:
        """Yield what shows how far all tasks of all runs are: bars on a terminal, else lines.

        Args:
            work: of each task, by the run's name.
            file: where a line of it is kept meanwhile, for whoever looks into the folder.
        """
        if not self.console.is_terminal:
            yield Lines(self.say, work, file)
            return
        progress = Progress(
            TextColumn("{task.description:<44}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
        )
        with progress:
            yield Bar(progress, Lines(self.say, work, file, only_results=True), sum(map(len, work.values())))


class Lines:
    """A line for each stage of a task and at every tenth of it, with the time that is left, and one for each result."""

    def __init__(
        self,
        say: Callable[[str], None],
        work: Mapping[str, Sequence[float]],
        file: Path,
        *,
        only_results: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Say nothing yet.

        Args:
            say: writes a line.
            work: of each task, by the run's name.
            file: is written with each line.
            only_results: whether no line of a stage is said, only written.
            clock: seconds that grow.
        """
        self._say = say
        self._work = work
        self._file = file
        self._only_results = only_results
        self._pace = _Pace(sum(map(sum, work.values())), clock)
        self._told: tuple[str, int, str, int, bool] = ("", 0, "", -1, False)
        self.left = ""
        """The time that is left, in words; nothing while it is not known."""

    def progress(self, name: str) -> Callable[[int, str, int, int, float], None]:
        """Return what a run is given to tell how far it is."""

        def tell(number: int, stage: str, done: int, total: int, loss: float) -> None:
            self.left = self._pace.left(_share(stage, done, total) * self._work[name][number - 1])
            # Told once more as soon as the time left is known, which may be long before the next tenth.
            telling = (name, number, stage, 10 * done // max(1, total), bool(self.left))
            if telling == self._told:
                return
            self._told = telling
            text = f"{name}, {self._task(name, number)}: {stage} {done} of {total}"
            text += f", loss {loss:.3f}" if math.isfinite(loss) else ""
            text += f"; {self.left}" if self.left else ""
            if not self._only_results:
                self._say(text)
            write_text(self._file, f"{text}\n")

        return tell

    def task_done(self, name: str) -> Callable[[Task, bool], None]:
        """Return what a run is given to tell what a task came to."""

        def tell(task: Task, ran: bool) -> None:
            self._pace.count(self._work[name][task.number - 1], ran=ran)
            if ran:
                self._say(f"{name}, {self._task(name, task.number)}: {_figures(task)} of {task.classes} classes")

        return tell

    def skip(self, name: str) -> None:
        """Leave a run out that is over, or that another process works on."""
        self._pace.count(sum(self._work[name]), ran=False)

    def tasks(self, name: str) -> int:
        """Return how many tasks a run has."""
        return len(self._work[name])

    def _task(self, name: str, number: int) -> str:
        return f"task {number} of {self.tasks(name)}"


class _Pace:
    """How long it takes, by the work that was done since it was first asked."""

    def __init__(self, total: float, clock: Callable[[], float]) -> None:
        self._total = total
        self._clock = clock
        self._over = 0.0
        self._skipped = 0.0
        self._first: tuple[float, float] | None = None

    def count(self, work: float, *, ran: bool) -> None:
        """Count work of a whole task; what did not run here says nothing about the pace."""
        self._over += work
        self._skipped += 0.0 if ran else work

    def left(self, work: float) -> str:
        """Return the time left, in words, with so much done of the task at hand; nothing while it is not known.

        A task that goes on from a checkpoint begins in its midst: what was done at the first call says nothing.
        """
        now, mine = self._clock(), self._over - self._skipped + work
        if self._first is None:
            self._first = now, mine
        began_s, before = self._first
        if mine <= before:
            return ""
        left_s = (now - began_s) / (mine - before) * max(0.0, self._total - self._over - work)
        return f"about {duration(round(left_s * 1000))} left"


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
            so_far = self._done + _share(stage, done, total)
            self._progress.update(self._all, completed=so_far, note=self._lines.left)
            note = f"loss {loss:.3f}" if math.isfinite(loss) else ""
            self._progress.update(self._stage, completed=done, total=total, note=note)

        return tell

    def task_done(self, name: str) -> Callable[[Task, bool], None]:
        """Return what a run is given to tell what a task came to."""
        also = self._lines.task_done(name)

        def tell(task: Task, ran: bool) -> None:
            also(task, ran)
            self._count(1)

        return tell

    def skip(self, name: str) -> None:
        """Leave a run out that is over, or that another process works on."""
        self._lines.skip(name)
        self._count(self._lines.tasks(name))

    def _count(self, tasks: int) -> None:
        self._done += tasks
        self._progress.update(self._all, completed=self._done)


def _figures(task: Task) -> str:
    from accrete_experiments.protocols import measures

    return ", ".join(f"{rule} {_percent(measures.top1(task, rule))}" for rule in task.scores)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def _share(stage: str, done: int, total: int) -> float:
    """Return how much of a task is done, or nothing would be known of the time left until the first is over."""
    return 0.9 * done / total if stage == "train" and total else 0.9
