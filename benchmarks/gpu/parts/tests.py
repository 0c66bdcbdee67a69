"""The tests marked `cuda`, file by file in processes of their own: a crash ends no more than its file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import benchmarks.gpu.reporting
from benchmarks.gpu.record import OutOfTime, Record
from benchmarks.gpu.settings import Settings
from benchmarks.report import Row

ROOT = Path(__file__).resolve().parents[3]
MARK = "pytest.mark.cuda"
_ONE_S = 60
"""Of one test."""


def run(record: Record, settings: Settings) -> None:
    """Run each file's tests in a cell."""
    files = marked()
    for file in [file for file in files if "engine" in file.name] if settings.tiny else files:
        record.cell(str(file.relative_to(ROOT)), partial(_file, record, settings, file), needs_s=5.0)


def marked() -> list[Path]:
    """Return the test files that name the mark, or the devices that carry it."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return [file for file in files if any(name in file.read_text("utf-8") for name in (MARK, "tests.devices"))]


def _file(record: Record, settings: Settings, file: Path) -> Iterator[Row]:
    results = settings.work / "tests" / f"{file.parent.name}-{file.stem}.jsonl"
    results.parent.mkdir(exist_ok=True)
    results.unlink(missing_ok=True)
    # Without a GPU the same bodies run on the CPU, as far as they can.
    chosen = ["-m", "cuda"] if settings.on_gpu else ["-k", "cpu and embeddings"]
    command = [sys.executable, "-m", "pytest", str(file), *chosen, "-q", "--tb=long", "-p", "no:cacheprovider"]
    command += ["-p", benchmarks.gpu.reporting.__name__, f"--timeout={_ONE_S}"]
    # In place of the project's own: the machine has no xdist, and one process for one GPU is right anyway.
    command += ["--override-ini=addopts=--strict-markers --import-mode=importlib"]
    environment = os.environ | {benchmarks.gpu.reporting.VARIABLE: str(results)}
    started = time.monotonic()
    process = subprocess.Popen(command, cwd=ROOT, env=environment)
    try:
        status = process.wait(max(1.0, record.left_s))
    except subprocess.TimeoutExpired as error:
        raise OutOfTime(f"after {time.monotonic() - started:.0f} s") from error
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        found = _results(results)
        for one in found:
            if one["outcome"] == "failed":
                record.note(f"{one['test']} failed: {one['text'][-3000:]}")
    counts = {name: sum(one["outcome"] == name for one in found) for name in ("passed", "failed", "skipped")}
    for reason in sorted({one["text"] for one in found if one["outcome"] == "skipped"}):
        record.note(f"skipped: {reason}"[:300])
    if status not in (0, 1, 5):
        record.note(f"pytest ended with status {status} after {len(found)} tests")
    yield Row(name="passed", value=counts["passed"], unit="")
    yield Row(name="skipped", value=counts["skipped"], unit="")
    yield Row(name="failed", value=counts["failed"] + (status not in (0, 1, 5)), unit="", bound="<= 0")


def _results(file: Path) -> list[dict[str, Any]]:
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]
