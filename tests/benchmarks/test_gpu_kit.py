"""The GPU kit on the CPU with tiny settings: the same script, killed once and gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.gpu import check, pack
from benchmarks.gpu.parts.protocols import whole
from benchmarks.gpu.run import PARTS, ROOT
from benchmarks.waiting import until

pytestmark = pytest.mark.integration


def start(out: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.gpu.run", "--tiny", "--device", "cpu", "--out", str(out), *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def know_packages(work: Path) -> None:
    """Spare it the import of every package, as an earlier call on the machine would have."""
    work.mkdir()
    (work / "packages.json").write_text(json.dumps({"numpy": "2"}))


def processes_on(folder: Path) -> list[bytes]:
    """Return the command lines of processes that name this folder."""
    lines = [_read(file) for file in Path("/proc").glob("[0-9]*/cmdline")]
    return [line for line in lines if str(folder).encode() in line]


def finish(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=850)
    assert process.returncode == 0, output
    return output


def found(out: Path) -> dict[str, Any]:
    what: dict[str, Any] = json.loads((out / "gpu.json").read_text())
    return what


def cells(out: Path, part: str) -> dict[str, Any]:
    what: dict[str, Any] = found(out)["parts"][part]["cells"]
    return what


def check_done(out: Path, part: str) -> None:
    what = found(out)["parts"][part]
    assert what["state"] == "ended", what
    assert what["cells"], what
    for name, cell in what["cells"].items():
        assert cell["state"] == "done", (name, cell)
        assert cell["rows"], name


def test_killed_in_the_middle_it_goes_on_where_it_was_and_leaves_no_process(tmp_path):
    know_packages(tmp_path / "work")
    process = start(tmp_path, "--parts", "swaps", "training")
    try:
        deadline = time.monotonic() + 300
        while not (tmp_path / "gpu.json").exists() or "ours, float32" not in cells(tmp_path, "training"):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    until(lambda: not processes_on(tmp_path), lambda: f"the end of {processes_on(tmp_path)}", seconds=60)
    left = found(tmp_path)
    assert left["parts"]["protocols"]["state"] == "not begun"
    swaps = left["parts"]["swaps"]["cells"]
    output = finish(start(tmp_path, "--call", "2"))
    assert "swaps: done before" in output
    assert cells(tmp_path, "swaps") == swaps
    for part in PARTS:
        check_done(tmp_path, part.name)
    assert [call["number"] for call in found(tmp_path)["calls"]] == [1, 2]
    assert "check: " in (tmp_path / "gpu.log").read_text()
    assert not processes_on(tmp_path)


def test_a_machine_without_its_gpu_is_told_at_once_and_keeps_what_another_one_has_done(tmp_path):
    before = tmp_path / "before.json"
    swaps = {"state": "ended", "notes": [], "cells": {"x": _cell()}}
    before.write_text(json.dumps({"calls": [{"number": 1, "parts": {}}], "parts": {"swaps": swaps}}))
    know_packages(tmp_path / "work")
    command = [sys.executable, "-m", "benchmarks.gpu.run", "--out", str(tmp_path), "--work", str(tmp_path / "work")]
    command += ["--before", str(before)]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=850)
    assert ended.returncode == 2, ended.stdout + ended.stderr
    assert "this machine cannot be used" in ended.stdout
    assert found(tmp_path)["calls"][1]["unusable"]
    assert cells(tmp_path, "swaps")["x"]["rows"] == [_row()]
    states = {name: part["state"] for name, part in found(tmp_path)["parts"].items()}
    assert states == {part.name: "not begun" for part in PARTS} | {"swaps": "ended"}


def test_packages_are_imported_until_they_are_known(monkeypatch):
    monkeypatch.setattr(check, "_PACKAGES", ("numpy", "google.protobuf", "not_there_at_all"))
    found = check.look("cpu", {}, tiny=True)
    assert found["device_ok"]
    assert found["packages"]["numpy"] == np.__version__
    assert not found["packages"]["google.protobuf"].startswith("error")
    assert found["packages"]["not_there_at_all"].startswith("error: ModuleNotFoundError")
    assert check.look("cpu", {"numpy": "2"}, tiny=True)["packages"] == {"numpy": "2"}


def test_every_part_is_a_module_and_has_its_minutes():
    for part in PARTS:
        assert (ROOT / "benchmarks" / "gpu" / "parts" / f"{part.name}.py").is_file()
        assert part.minutes > 0


def _row() -> dict[str, Any]:
    return {"name": "rate", "value": 1.0, "unit": "", "spread": None, "bound": "", "ok": None}


def _cell() -> dict[str, Any]:
    return {"state": "done", "seconds": 1.0, "rows": [_row()], "notes": []}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


@pytest.mark.unit
def test_the_runner_starts_where_nothing_is_installed():
    """Not even our own packages: they are found once the machine is made ready."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-S", "-m", "benchmarks.gpu.run", "--help"]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=850)
    assert ended.returncode == 0, ended.stderr
    assert "--carried" in ended.stdout


def test_the_data_travel_in_a_piece_a_call_and_are_whole_once_all_have_come(tmp_path):
    halves = [tmp_path / "part1.npz", tmp_path / "part2.npz"]
    for number, half in enumerate(halves):
        half.write_bytes(bytes([number]) * (1000 + number) + b"end")
    pack.stage([], halves, calls=3, staged=tmp_path / "staged")
    there = tmp_path / "there"
    there.mkdir()
    for number in (1, 2, 3):
        assert whole(there) == []
        for piece in (tmp_path / "staged" / str(number) / "cifar100").iterdir():
            (there / piece.name).write_bytes(piece.read_bytes())
    assert [file.read_bytes() for file in whole(there)] == [half.read_bytes() for half in halves]
