"""How much memory a process may still take."""

from __future__ import annotations

import re
from pathlib import Path


def free_memory(root: Path = Path("/")) -> int | None:
    """Return the bytes that a process can take without anything being swapped or killed; None where it cannot be told.

    The least of what the kernel says is available and what the container's limit leaves (cgroup v2).

    Args:
        root: of the file system, for tests.
    """
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB$", (root / "proc/meminfo").read_text(), re.MULTILINE)
    except OSError:
        return None
    if found is None:
        return None
    available = int(found[1]) * 1024
    try:
        limit, used = ((root / "sys/fs/cgroup" / name).read_text().strip() for name in ("memory.max", "memory.current"))
        return available if limit == "max" else max(0, min(available, int(limit) - int(used)))
    except (OSError, ValueError):
        return available
