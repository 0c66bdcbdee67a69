"""Two settings of a benchmark by turns."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import pytest

from benchmarks.report import Row, median_row
from benchmarks.variants import add_flags, by_turns

COSTS = {"queue": [1.0, 4.0, 2.0, 3.0], "handlers": [2.0, 4.0, 8.0, 3.0]}


def parsed(*flags: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    return parser.parse_args(flags)


class Measured:
    """A benchmark whose rows are known. One of its names comes twice, as in `overload`."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.folders: set[Path] = set()

    def __call__(self, folder: Path, settings: Mapping[str, str], parts: int) -> list[Row]:
        front = settings["server.front"]
        turn = self.order.count(front)
        self.order.append(front)
        assert folder.is_dir()
        self.folders.add(folder)
        cost = COSTS[front][turn]
        return [
            median_row("cost", [cost], "ms", "<= 2"),
            median_row("cost", [10 * cost], "ms"),
            Row(name="failed", value=float(turn == 2), unit="", bound="<= 0"),
            Row(name="parts", value=parts, unit=""),
        ]


def test_one_server_is_measured_once_and_as_a_whole(tmp_path: Path) -> None:
    measured = Measured()
    rows = by_turns(parsed("--set", "server.front=queue"), tmp_path, measured)
    assert [(row.name, row.value) for row in rows] == [("cost", 1), ("cost", 10), ("failed", 0), ("parts", 1)]


def test_two_take_turns_and_the_second_is_told_over_the_first(tmp_path: Path) -> None:
    measured = Measured()
    rows = by_turns(parsed("--set", "server.front=queue", "--against", "server.front=handlers"), tmp_path, measured)
    assert measured.order == ["queue", "handlers", "handlers", "queue"] * 2
    assert len(measured.folders) == 8
    told = [(row.name, row.value, row.spread, row.ok) for row in rows]
    assert told[:3] == [
        ("[front=queue] cost", 2.5, (1, 4), False),
        ("[front=handlers] cost", 3.5, (2, 8), False),
        ("cost: second over first", 1.5, (1, 4), None),
    ]
    assert told[3][:3] == ("[front=queue] cost", 25, (10, 40))
    assert ("[front=queue] failed", 1, (0, 1), False) in told  # once is too often, whatever the median is
    assert ("[front=handlers] parts", 4, (4, 4), None) in told


def test_a_setting_without_a_value_is_refused() -> None:
    with pytest.raises(SystemExit):
        parsed("--against", "server.front")
