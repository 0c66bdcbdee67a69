"""Accuracies that others published, to be drawn beside ours: a CSV file with the columns name, rule, classes, percent.

Standard library alone.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

COLUMNS = ("name", "rule", "classes", "percent")


@dataclass(frozen=True, kw_only=True)
class Published:
    """One point of a published curve."""

    name: str
    """What stands beside it: the method, and who says so."""
    rule: str
    """`head`, `nme` or another rule that runs are measured with."""
    classes: int
    """Classes seen."""
    percent: float
    """Top-1 accuracy on these."""


def read(file: Path) -> tuple[Published, ...]:
    """Return the points of a file, in its order.

    Raises:
        ValueError: when it has other columns, or a row that is no point; the message names file and line.
        OSError: when it cannot be read.
    """
    with file.open(encoding="utf-8", newline="") as text:
        rows = csv.DictReader(text, strict=True)
        try:
            if tuple(rows.fieldnames or ()) != COLUMNS:
                raise ValueError(f"the first line must be {','.join(COLUMNS)}")
            return tuple(map(_point, rows))
        except (ValueError, csv.Error) as error:
            raise ValueError(f"{file}, line {rows.line_num}: {error}") from error


def _point(row: dict[str, str]) -> Published:
    if None in row or None in row.values() or not row["name"].strip() or not row["rule"].strip():
        raise ValueError(f"{', '.join(COLUMNS)} are needed, each with a value")
    classes, percent = int(row["classes"]), float(row["percent"])
    if classes < 1:
        raise ValueError(f"classes = {classes}: must be at least 1")
    if not 0 <= percent <= 100:
        raise ValueError(f"percent = {percent}: must be 0 to 100")
    return Published(name=row["name"].strip(), rule=row["rule"].strip(), classes=classes, percent=percent)
