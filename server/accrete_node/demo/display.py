"""What a person sees of the demonstration: progress as it happens, a row a version, a summary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from accrete_node.demo.figures import VersionRow

_COLUMNS = (
    ("version", 7),
    ("classes", 7),
    ("accuracy", 8),
    ("old", 6),
    ("new", 6),
    ("forgot", 6),
    ("seconds", 7),
    ("p50/p99 idle ms", 15),
    ("p50/p99 learning ms", 19),
    ("failed", 6),
)


class Display:
    """Writes to a terminal with bars, and to anything else in plain lines."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self._progress = Progress(
            TextColumn("{task.description:<28}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
        )
        self._training: TaskID | None = None
        self._stage = ""

    @contextmanager
    def live(self) -> Iterator[None]:
        """Bars are drawn inside."""
        with self._progress:
            yield

    def say(self, text: str, style: str = "") -> None:
        """A line."""
        self.console.print(text, style=style or None, soft_wrap=True, markup=False)

    @contextmanager
    def examples(self, total: int) -> Iterator[Any]:
        """A bar for examples sent; call what it yields with how many more were acknowledged."""
        task = self._progress.add_task("examples acknowledged", total=total, note="")
        try:
            yield lambda count: self._progress.advance(task, count)
        finally:
            self._progress.remove_task(task)

    def step(self, stage: str, done: int, total: int, loss: float) -> None:
        """A step's progress in epochs or parts."""
        if self._training is None or stage != self._stage:
            self.step_over()
            self._training = self._progress.add_task(f"step: {stage}", total=total, note="")
            self._stage = stage
        note = f"loss {loss:.3f}" if stage in ("train", "rebalance") else ""
        self._progress.update(self._training, completed=done, total=total, note=note)

    def step_over(self) -> None:
        """Take the step's bar away."""
        if self._training is not None:
            self._progress.remove_task(self._training)
            self._training = None

    def header(self) -> None:
        """The table's head."""
        self.say("  ".join(name.rjust(width) for name, width in _COLUMNS), "bold")

    def row(self, row: VersionRow) -> None:
        """A version."""
        cells = (
            str(row.version),
            str(row.classes),
            _share(row.accuracy),
            _share(row.accuracy_old),
            _share(row.accuracy_new),
            _share(row.forgetting),
            f"{row.seconds:.1f}",
            _pair(row.predict_p50_idle_ms, row.predict_p99_idle_ms),
            _pair(row.predict_p50_learning_ms, row.predict_p99_learning_ms),
            str(row.predicts_failed),
        )
        self.say("  ".join(cell.rjust(width) for cell, (_, width) in zip(cells, _COLUMNS, strict=True)))

    def summary(self, summary: Mapping[str, Any]) -> None:
        """The end."""
        latency = "  ".join(
            f"{state} {_pair(summary['predict_p50_ms'][state], summary['predict_p99_ms'][state])}"
            for state in ("idle", "learning")
        )
        self.say("")
        self.say(f"final accuracy                {_share(summary['final_accuracy'])}", "bold")
        self.say(f"average incremental accuracy  {_share(summary['average_incremental_accuracy'])}")
        self.say(f"forgetting                    {_share(summary['forgetting'])}")
        self.say(
            f"Predict calls                 {summary['predicts_ok']} answered, {summary['predicts_failed']} failed"
        )
        self.say(f"Predict p50/p99, ms           {latency}")
        self.say(f"swaps                         {summary['swaps']}")
        self.say(f"seconds                       {summary['seconds']:.1f}")


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _pair(first: float | None, second: float | None) -> str:
    return "-" if first is None or second is None else f"{first:.1f}/{second:.1f}"
