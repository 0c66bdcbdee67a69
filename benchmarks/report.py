"""How a benchmark tells what it found: the machine, and one row per figure with the bound that it should keep."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure."""

    name: str
    value: float
    unit: str
    spread: tuple[float, float] | None = None
    """Lowest and highest over the rounds; None for a single measurement."""
    bound: str = ""
    """What it should keep, such as ">= 2"; empty for a figure that only explains another."""

    @property
    def ok(self) -> bool | None:
        """Whether it keeps its bound; None without one."""
        if not self.bound:
            return None
        sign, limit = self.bound.split()
        return self.value >= float(limit) if sign == ">=" else self.value <= float(limit)


def median_row(name: str, values: Sequence[float], unit: str, bound: str = "") -> Row:
    """Return the median of the rounds, with their spread."""
    return Row(name=name, value=statistics.median(values), unit=unit, spread=(min(values), max(values)), bound=bound)


def machine() -> dict[str, Any]:
    """Return what the figures were measured on."""
    gpu, version = None, None
    with suppress(ModuleNotFoundError):  # of an install without it, there are figures as well
        import torch

        gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
        version = torch.__version__
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "gpu": gpu,
        "python": platform.python_version(),
        "torch": version,
        "load_before": os.getloadavg()[0],
    }


def arguments(description: str) -> argparse.ArgumentParser:
    """Return the flags that every benchmark has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--short", action="store_true", help="under a minute; noisier")
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the figures as JSON")
    return parser


def setting(text: str) -> tuple[str, str]:
    """Return name and value of a flag that sets something of a server. Raises ArgumentTypeError."""
    name, found, value = text.partition("=")
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r}; SECTION.FIELD=VALUE is expected")
    return name, value


def show(rows: Sequence[Row], found: dict[str, Any], file: Path | None) -> None:
    """Print the rows, and write them to `file` when one is given."""
    print(", ".join(f"{name}: {value}" for name, value in found.items()))
    for row in rows:
        spread = f"  ({row.spread[0]:.4g} to {row.spread[1]:.4g})" if row.spread else ""
        verdict = "" if row.ok is None else f"  {row.bound}: {'kept' if row.ok else 'NOT KEPT'}"
        print(f"{row.name:<58} {row.value:>10.4g} {row.unit}{spread}{verdict}")
    if file is not None:
        body = {"machine": found, "rows": [asdict(row) | {"ok": row.ok} for row in rows]}
        file.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
