"""What a part has found, line by line, so that an end at any moment leaves what was done.

A part is made of cells. Each finished cell stands in the part's file with its rows, and is not run again.
"""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the runner reads records before it is known whether PyTorch can be imported
    from benchmarks.report import Row

Json = dict[str, Any]

SETTLED = ("done", "failed", "hangs")
"""States of a cell with which there is nothing more to be had of it by the same code."""


class OutOfTime(Exception):
    """A cell ends itself, unfinished, because its part's minutes are over."""


class Record:
    """One part's file of JSON lines, appended to."""

    def __init__(self, file: Path, *, seconds: float, again: bool = False) -> None:
        """Continue `file`, or begin it; `seconds` are left for what is still to be done.

        Args:
            file: the part's.
            seconds: of the part in this call.
            again: do what failed, or twice did not come back, once more.
        """
        self._file = file
        self._until = time.monotonic() + seconds
        settled = ("done",) if again else SETTLED
        self._settled = {name: cell["state"] for name, cell in read(file)["cells"].items() if cell["state"] in settled}
        self._cell = ""
        if file.exists() and not file.read_bytes().endswith(b"\n"):
            with file.open("ab") as cut_off:
                cut_off.write(b"\n")

    @property
    def left_s(self) -> float:
        """Seconds of the part's own time that are left."""
        return self._until - time.monotonic()

    def cell(self, name: str, work: Callable[[], Iterable[Row]], *, needs_s: float = 0.0) -> None:
        """Do one piece of work unless it was done before, and keep each row as soon as it is there.

        Whatever the work raises is kept with its traceback and goes no further. A cell that needs more seconds than are
        left is not begun.
        """
        if name in self._settled:
            print(f"{name}: {self._settled[name]} before", flush=True)
            return
        if self.left_s < needs_s:
            self.note(f"{name}: not begun, {self.left_s:.0f} s were left and it needs {needs_s:.0f}")
            return
        print(f"{name}: begins, {self.left_s:.0f} s left", flush=True)
        started = time.perf_counter()
        self._write({"cell": name, "event": "begun"})
        self._cell = name
        try:
            for row in work():
                self.row(name, row)
        except OutOfTime as error:
            self._write({"cell": name, "event": "unfinished", "reason": str(error)})
        except Exception as error:
            print(traceback.format_exc(), flush=True)
            reason = f"{type(error).__name__}: {error}"[:2000]
            self._write(
                {"cell": name, "event": "failed", "reason": reason, "traceback": traceback.format_exc()[-8000:]}
            )
        else:
            self._write({"cell": name, "event": "done", "seconds": round(time.perf_counter() - started, 2)})
            self._settled[name] = "done"
        finally:
            self._cell = ""

    def row(self, cell: str, row: Row) -> None:
        """Keep one figure of a cell."""
        value = f"{row.value:.5g} {row.unit}"
        print(f"{cell}: {row.name}: {value}{'' if row.ok is None else f' ({row.bound}: {row.ok})'}", flush=True)
        self._write({"cell": cell, "event": "row", "row": asdict(row) | {"ok": row.ok}})

    def values(self, cell: str) -> dict[str, float]:
        """Return a finished cell's figures by name; empty for any other."""
        found = read(self._file)["cells"].get(cell, {})
        return {row["name"]: row["value"] for row in found["rows"]} if found.get("state") == "done" else {}

    def row_value(self, cell: str, name: str) -> float:
        """Return a figure of a cell that may still be under way. Raises KeyError when it has none of that name."""
        rows = read(self._file)["cells"][cell]["rows"]
        return {str(row["name"]): float(row["value"]) for row in rows}[name]

    def note(self, text: str) -> None:
        """Keep a sentence, such as why something was done otherwise; within a cell it belongs to that."""
        print(f"note: {text}", flush=True)
        self._write({"cell": self._cell, "event": "note", "text": text})

    def end(self) -> None:
        """Say that the part has come to its end, whatever its cells came to."""
        self._write({"event": "end"})

    def _write(self, line: Json) -> None:
        # One write of a whole line: what another process reads meanwhile, or after a kill, is lines.
        with self._file.open("ab") as file:
            file.write(json.dumps(line).encode() + b"\n")
            file.flush()


def read(file: Path) -> Json:
    """Return a part's file as `{"state", "cells": {name: {"state", "rows", ...}}, "notes"}`.

    A cell that was begun more than once counts as it was begun last. A line that a kill cut off is left out. States of
    a cell are `begun`, `unfinished` (it ended itself in time), `done`, `failed` (with `reason` and `traceback`) and
    `hangs`.
    """
    found: Json = {"state": "not begun", "cells": {}, "notes": []}
    for line in file.read_bytes().splitlines() if file.exists() else ():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        _add(found, event)
    return found


def _add(found: Json, event: Json) -> None:
    kind, name = event["event"], event.get("cell", "")
    found["state"] = "ended" if kind == "end" else "begun"
    if kind == "begun":
        # One that was begun twice and said nothing of its end, either time, took its process with it or was killed.
        silent = found["cells"].get(name, {}).get("state") == "begun"
        found["cells"][name] = {"state": "hangs" if silent else "begun", "rows": [], "notes": []}
    elif kind == "note":
        (found["cells"][name]["notes"] if name in found["cells"] else found["notes"]).append(event["text"])
    elif kind == "row":
        found["cells"][name]["rows"].append(event["row"])
    elif kind in ("done", "failed", "unfinished"):
        details = {key: value for key, value in event.items() if key not in ("cell", "event")}
        found["cells"][name] |= {"state": kind, **details}


def restore(part: Mapping[str, Any], file: Path) -> None:
    """Write the finished cells of a part, as `read` returned them, to a new file, so that they count as done."""
    lines: list[Json] = []
    for name, cell in part["cells"].items():
        if cell["state"] != "done":
            continue
        lines.append({"cell": name, "event": "begun"})
        lines += [{"cell": name, "event": "note", "text": text} for text in cell["notes"]]
        lines += [{"cell": name, "event": "row", "row": row} for row in cell["rows"]]
        lines.append({"cell": name, "event": "done", "seconds": cell["seconds"]})
    if part["state"] == "ended" and all(cell["state"] == "done" for cell in part["cells"].values()):
        lines.append({"event": "end"})
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def write_whole(path: Path, content: object) -> None:
    """Write JSON so that a reader, or a kill, finds either the old file or the new one."""
    making = path.with_name(f"{path.name}.new")
    making.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(making, path)
