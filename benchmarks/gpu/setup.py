"""Make a bare machine ready: copy aside what was carried, install missing packages, ask the device.

Standard library alone: nothing else is sure to be there.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
WORK = Path("/tmp/accrete-gpu")
"""Outside of the copied tree, which each call lays anew."""

_CHECK_S = 90
"""The first import from a cold disk and the first call of CUDA take seconds, not minutes."""


class UnusableError(Exception):
    """Nothing can be measured on this machine."""


def prepare(work: Path, carried: Path | None) -> list[str]:
    """Copy aside what was carried, install what is missing below `work`; return what is worth telling."""
    notes = []
    if carried is not None:
        for kind in ("cifar100", "pieces"):
            notes += _copied(carried / kind, work / kind)
        notes += _install(sorted((carried / "wheels").glob("*.whl")), work / "site")
    _describe_accrete(work / "site")
    return notes


def environment(work: Path, device: str) -> dict[str, str]:
    """Return the environment of every process: our packages' folders, and caches that outlive a call."""
    folders = [
        work / "site",
        *(ROOT / folder for folder in _pyproject()["tool"]["pytest"]["ini_options"]["pythonpath"]),
    ]
    found = dict(os.environ) | {
        "PYTHONPATH": os.pathsep.join(str(folder.resolve()) for folder in folders),
        "PYTHONUNBUFFERED": "1",
        "TORCHINDUCTOR_CACHE_DIR": str(work / "inductor"),
        "TRITON_CACHE_DIR": str(work / "triton"),
    }
    if device == "cpu":  # threads of small work on cores that others use wait for each other
        found |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    return found


def check(work: Path, environment: dict[str, str], device: str, *, tiny: bool) -> dict[str, Any]:
    """Return what `benchmarks.gpu.check` found, in a process of its own; `device_ok` says whether to go on."""
    known = work / "packages.json"
    command = [sys.executable, "-m", "benchmarks.gpu.check", "--device", device, "--packages", str(known)]
    command += ["--tiny"] if tiny else []
    try:
        ended = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=_CHECK_S, check=False
        )
    except subprocess.TimeoutExpired:
        return {"device_ok": False, "reason": f"the check took more than {_CHECK_S} s"}
    (work / "check.log").write_text(ended.stderr, encoding="utf-8")
    try:
        found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        return {"device_ok": False, "reason": f"the check ended with status {ended.returncode}: {ended.stderr[-1500:]}"}
    return found


def whole_wheel(work: Path) -> Path | None:
    """Return the wheel whose pieces have all come, joined; None while one is missing."""
    pieces = sorted((work / "pieces").glob("*-of-*")) if (work / "pieces").is_dir() else []
    if not pieces or len(pieces) < int(pieces[0].name.rpartition("-")[2]):
        return None
    wheel = work / "pieces" / pieces[0].name.rpartition(".")[0]
    if not wheel.exists():
        making = wheel.with_suffix(".joining")
        with making.open("wb") as target:
            for piece in pieces:
                target.write(piece.read_bytes())
        making.rename(wheel)
    return wheel


def install(wheels: list[Path], site: Path) -> str:
    """Install wheels into a folder, with pip or, where there is none, as the archives that they are."""
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-compile"]
    command += ["--no-cache-dir", "--upgrade", "--target", str(site), *map(str, wheels)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode == 0:
        return ""
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)
    return f"pip could not install, so that the wheels were unpacked: {ended.stderr.strip()[-300:]}"


def _copied(source: Path, target: Path) -> list[str]:
    if not source.is_dir():
        return []
    target.mkdir(parents=True, exist_ok=True)
    for file in source.iterdir():
        making = target / f"{file.name}.copying"
        shutil.copyfile(file, making)
        making.rename(target / file.name)
    return [f"{source.name}: {', '.join(sorted(file.name for file in target.iterdir()))} are here"]


def _install(wheels: list[Path], site: Path) -> list[str]:
    absent = [wheel for wheel in wheels if not _is_there(wheel, site)]
    if not absent:
        return []
    trouble = install(absent, site)
    names = ", ".join("-".join(wheel.name.split("-")[:2]) for wheel in absent)
    return [f"installed: {names}", *([trouble] if trouble else [])]


def _is_there(wheel: Path, site: Path) -> bool:
    """Return whether the wheel's release or a later one is installed."""
    name, version = wheel.name.split("-")[:2]
    path = [str(site), *sys.path]
    return any(
        _numbers(one.version) >= _numbers(version) for one in importlib.metadata.distributions(name=name, path=path)
    )


def _numbers(version: str) -> list[int]:
    """Return the numbers of a release. Standard library alone, and enough to tell an older one."""
    return [int(part) for part in re.findall(r"\d+", version)]


def _describe_accrete(site: Path) -> None:
    """Tell the interpreter of our own commands and release, as an installation would: both are looked up by name."""
    project = _pyproject()["project"]
    folder = site / f"{project['name']}-{project['version']}.dist-info"
    folder.mkdir(parents=True, exist_ok=True)
    header = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (folder / "METADATA").write_text(header, encoding="utf-8")
    lines = []
    for group, entries in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {target}" for name, target in entries.items())]
    (folder / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
