"""Aligned tables for people, and JSON for scripts."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Any

_SHARE = re.compile(r"[\d.]+ %( of \d+)?")
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return columns two spaces apart, numbers to the right; None is shown as "-"."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(headers, *cells, strict=True)]
    right = [bool(rows) and all(_is_number(row[i]) for row in rows) for i in range(len(headers))]
    return "\n".join(_line(row, widths, right) for row in [list(headers), *cells])


def pairs(items: Sequence[tuple[str, object]]) -> str:
    """Return one name and value per line, aligned."""
    width = max(len(name) for name, _ in items)
    return "\n".join(f"{name:<{width}}  {_cell(value)}".rstrip() for name, value in items)


def to_json(value: object, *, indent: int | None = 2) -> str:
    """Return JSON, with dataclasses as objects and numbers that are not finite as null.

    Where stdout does not take all of Unicode, other characters are escaped as JSON escapes them.
    """
    return json.dumps(plain(value), indent=indent, ensure_ascii=not _takes_unicode(), allow_nan=False)


def _takes_unicode() -> bool:
    return (getattr(sys.stdout, "encoding", None) or "utf-8").lower().startswith("utf")


def plain(value: object) -> Any:
    """Return the same as dicts, lists, strings, numbers, booleans and None only."""
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if hasattr(value, "tolist"):  # a numpy array
        return plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def percent(share: float | None) -> str | None:
    """Return an accuracy for people, such as "93.4 %"."""
    return None if share is None else f"{share * 100:.1f} %"


def measured(share: float | None, images: int) -> str | None:
    """Return an accuracy with the images that it is of, such as "93.4 % of 61", where they are known."""
    return f"{percent(share)} of {images}" if share is not None and images else percent(share)


def counted(part: int, whole: int) -> str:
    """Return a share with what it counts, such as "11 of 12 (91.7 %)"."""
    return f"{part} of {whole} ({percent(part / whole)})" if whole else f"{part} of {whole}"


def local_time(milliseconds: int, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    """Return a time stamp on this machine's clock."""
    return datetime.fromtimestamp(milliseconds / 1000).strftime(form)


def duration(milliseconds: int) -> str:
    """Return a duration for people, such as "850 ms", "42 s", "3 min 20 s" or "2 h 5 min"."""
    seconds = round(milliseconds / 1000)
    if milliseconds < 1000:
        return f"{milliseconds} ms"
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"


def size(count: int) -> str:
    """Return a number of bytes for people, such as "512 B" or "1.5 MiB"."""
    exponent = min(max(count.bit_length() - 1, 0) // 10, len(_UNITS) - 1)
    return f"{count / 1024**exponent:.1f} {_UNITS[exponent]}" if exponent else f"{count} B"


def _cell(value: object) -> str:
    """Return a value as it will be shown, escapes for what stdout lacks included, so that its width is known."""
    if value is None:
        return "-"
    text = f"{value:.4f}" if isinstance(value, float) else str(value)
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _is_number(value: object) -> bool:
    return value is None or isinstance(value, int | float) or _SHARE.fullmatch(str(value)) is not None


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = (
        cell.rjust(width) if to_right else cell.ljust(width)
        for cell, width, to_right in zip(cells, widths, right, strict=True)
    )
    return "  ".join(padded).rstrip()
