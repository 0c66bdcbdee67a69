"""A pytest plugin that writes each test's outcome at once, so that a crash leaves those before it."""

from __future__ import annotations

import json
import os

import pytest

VARIABLE = "ACCRETE_GPU_TESTS"
"""Environment variable with the file's name."""


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Write a line for each test, and for a set-up or tear-down that failed or was skipped."""
    if report.when != "call" and report.outcome == "passed":
        return
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
    line = {"test": report.nodeid, "outcome": report.outcome, "text": text, "seconds": round(report.duration, 2)}
    with open(os.environ[VARIABLE], "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
