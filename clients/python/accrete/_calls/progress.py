"""A progress bar on stderr, which is rich's where it is installed, else a line that counts."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

Report = Callable[[int, int], None]
"""Called with how many are done and how many there are, by one thread at a time, which need not be the caller's."""


@contextlib.contextmanager
def shown(progress: bool | Report, what: str) -> Iterator[Report]:
    """Yield the function to report to. True shows a bar when stderr is a terminal."""
    if callable(progress):
        yield progress
    elif progress and sys.stderr.isatty():
        with _bar(what) as report:
            yield report
    else:
        yield _nothing


def _nothing(done: int, total: int) -> None:
    return


@contextlib.contextmanager
def _bar(what: str) -> Iterator[Report]:
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    except ImportError:
        with _counter(what) as report:
            yield report
        return
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextlib.contextmanager
def _counter(what: str) -> Iterator[Report]:
    def report(done: int, total: int) -> None:
        sys.stderr.write(f"\r{what} {done} of {total}")
        sys.stderr.flush()

    yield report
    sys.stderr.write("\n")
