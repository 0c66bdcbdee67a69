"""What a person sees of a session: progress as it happens, one row per version, a summary."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from accrete_experiments.live.figures import VersionRow

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
        self._bar: TaskID | None = None
        self._stage = ""
        self._lock = threading.RLock()
        """The session and who watches the learner both set the bar."""

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
        """Yield a function that moves a bar of examples sent; call it with how many more were acknowledged."""
        task = self._progress.add_task("examples acknowledged", total=total, note="")
        try:
            yield lambda count: self._progress.advance(task, count)
        finally:
            self._progress.remove_task(task)

    def busy(self, what: str) -> None:
        """A bar without an end, for what takes its time and tells nothing meanwhile."""
        with self._lock:
            self._show(what, None)

    def step(self, stage: str, done: int, total: int, loss: float) -> None:
        """A step's progress in epochs or parts."""
        note = f"loss {loss:.3f}" if stage in ("train", "rebalance") else ""
        with self._lock:
            self._progress.update(self._show(f"step: {stage}", total), completed=done, total=total, note=note)

    def step_over(self) -> None:
        """Take the bar away."""
        with self._lock:
            if self._bar is not None:
                self._progress.remove_task(self._bar)
                self._bar = None

    def _show(self, what: str, total: int | None) -> TaskID:
        if self._bar is None or what != self._stage:
            self.step_over()
            self._bar, self._stage = self._progress.add_task(what, total=total, note=""), what
        return self._bar

    def header(self) -> None:
        """The table's head."""
        self.step_over()
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
