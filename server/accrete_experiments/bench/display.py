"""What a person sees of a protocol: how far it is, what it came to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
    def runs(self, tasks: int) -> Iterator[Bar]:
        """Yield a bar over all tasks of all runs, and one over the stage at hand."""
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
            yield Bar(progress, tasks)


class Bar:
    """The two bars of a protocol."""

    def __init__(self, progress: Progress, tasks: int) -> None:
        self._progress = progress
        self._all: TaskID = progress.add_task("tasks", total=tasks, note="")
        self._stage: TaskID = progress.add_task("", total=None, note="")
        self._done = 0
        self._at = ""

    def progress(self, name: str) -> Callable[[int, str, int, int, float], None]:
        """Return what a run is given to tell how far it is."""

        def tell(number: int, stage: str, done: int, total: int, loss: float) -> None:
            at = f"{name}, task {number}: {stage}"
            if at != self._at:
                self._progress.reset(self._stage, description=at, total=total)
                self._at = at
            # Part of a task counts too, or nothing would be known of the time left until the first is over.
            share = 0.9 * done / total if stage == "train" and total else 0.9
            self._progress.update(self._all, completed=self._done + number - 1 + share)
            self._progress.update(self._stage, completed=done, total=total, note=f"loss {loss:.3f}")

        return tell

    def skip(self, tasks: int) -> None:
        """So many tasks are over."""
        self._done += tasks
        self._progress.update(self._all, completed=self._done)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"
