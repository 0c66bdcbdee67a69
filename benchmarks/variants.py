"""A benchmark of one server, or of two that differ in settings, by turns in one run.

    python -m benchmarks.overload --set server.front=queue --against server.front=handlers

Every turn starts anew, whichever is first in one is last in the next, and the turns share the rounds of one run.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.report import Row, median_row, setting

_TURNS = 4

Measure = Callable[[Path, Mapping[str, str], int], list[Row]]
"""Measures in a folder that is there, with settings by `SECTION.FIELD`, in so many parts of a whole run's rounds."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that name the settings of the first and of the second."""
    for flag, told in (("--set", "a setting of the server"), ("--against", "a setting of a second server")):
        parser.add_argument(flag, action="append", default=[], metavar="S.F=V", type=setting, help=told)


def name_of(settings: Sequence[tuple[str, str]]) -> str:
    """Return what the settings are called in the name of a row."""
    return " ".join(f"{name.rpartition('.')[2]}={value}" for name, value in settings) or "as it is"


def by_turns(parsed: argparse.Namespace, folder: Path, measure: Measure) -> list[Row]:
    """Return the rows of what the flags name: of the first, and of the second with the second over the first."""
    if not parsed.against:
        return measure(folder, dict(parsed.set), 1)
    variants = [dict(parsed.set), dict(parsed.against)]
    turns: list[list[list[Row]]] = [[], []]
    for number in range(_TURNS):
        for which in (0, 1) if number % 2 == 0 else (1, 0):
            own = folder / f"{number}-{which}"
            own.mkdir()
            turns[which].append(measure(own, variants[which], _TURNS))
    names = [name_of(parsed.set), name_of(parsed.against)]
    rows = []
    # Each turn has the same rows, of which some may have the same name.
    for first, second in zip(*(zip(*of_one, strict=True) for of_one in turns), strict=True):
        rows += [_joined(f"[{name}] ", of_one) for name, of_one in zip(names, (first, second), strict=True)]
        if all(one.value for one in first):
            ratios = [late.value / early.value for early, late in zip(first, second, strict=True)]
            rows.append(median_row(f"{first[0].name}: second over first", ratios, "x"))
    return rows


def _joined(before: str, of_turns: Sequence[Row]) -> Row:
    """Return one row for all turns: of rounds the median, of a count the worst where there is a bound for it."""
    values, bounds = [row.value for row in of_turns], {row.bound for row in of_turns}
    bound = bounds.pop() if len(bounds) == 1 else ""
    value = statistics.median(values)
    if bound and of_turns[0].spread is None:
        value = min(values) if bound.startswith(">=") else max(values)
    row = of_turns[0]
    return Row(name=before + row.name, value=value, unit=row.unit, spread=(min(values), max(values)), bound=bound)
