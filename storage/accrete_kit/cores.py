"""How much of the machine's processor this process may use."""

from __future__ import annotations

import os
from pathlib import Path


def available(process: Path = Path("/proc/self")) -> float:
    """Return the cores that this process may use at one time, above 0: a container may have half a core.

    The least of the cores that the process may run on (`taskset`, cpusets) and the quotas of its control group and of
    all above it (cgroup v2 `cpu.max`, v1 `cpu.cfs_quota_us`). Elsewhere than on Linux, the machine's cores.

    Args:
        process: its folder in `/proc`.
    """
    return min([float(allowed()), *_quotas(process)])


def allowed() -> int:
    """Return how many cores this process may run on, a quota aside."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def whole(process: Path = Path("/proc/self")) -> int:
    """Return how many threads can compute at one time on the cores that are available: at least 1."""
    return max(1, int(available(process)))


def _quotas(process: Path) -> list[float]:
    found = []
    for mount, groups in _folders(process):
        folder = groups
        while True:
            if (quota := _quota(folder)) is not None:
                found.append(quota)
            if folder == mount or mount not in folder.parents:
                break
            folder = folder.parent
    return found


def _folders(process: Path) -> list[tuple[Path, Path]]:
    """Return, for each hierarchy that may limit processor time, where it is mounted and the process's folder in it."""
    try:
        groups = [line.split(":", 2) for line in (process / "cgroup").read_text().splitlines()]
        mounts = [line.split() for line in (process / "mountinfo").read_text().splitlines()]
    except OSError:
        return []
    found = []
    for fields in mounts:
        kind, options = fields[fields.index("-") + 1], fields[-1].split(",")
        if kind not in ("cgroup", "cgroup2") or (kind == "cgroup" and "cpu" not in options):
            continue
        root, mount = Path(_unescaped(fields[3])), Path(_unescaped(fields[4]))
        for _, controllers, path in groups:
            if (kind == "cgroup2" and not controllers) or (kind == "cgroup" and "cpu" in controllers.split(",")):
                # Of a container that sees its own group alone, the path may be told from outside or from inside.
                inside = Path(path).relative_to(root) if Path(path).is_relative_to(root) else Path(path.lstrip("/"))
                folder = mount / inside
                found.append((mount, folder if folder.is_dir() else mount))
    return found


def _quota(folder: Path) -> float | None:
    """Return the cores that one control group may use, or None where it has no limit."""
    try:
        if (limit := folder / "cpu.max").exists():
            quota, period = limit.read_text().split()
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return float(quota) / float(period) if quota != "max" and float(quota) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _unescaped(text: str) -> str:
    """Return a path of mountinfo, where a space is written \\\\040 (proc(5))."""
    for code, letter in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, letter)
    return text
