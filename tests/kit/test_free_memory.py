"""How much memory a process may still take, by the kernel and by a container's limit."""

from __future__ import annotations

from pathlib import Path

import pytest

from accrete_kit.free_memory import free_memory


@pytest.mark.parametrize(
    ("limit", "used", "free"),
    [("max", 5, 2_048_000), ("3000000", 2_000_000, 1_000_000), ("9000000", 0, 2_048_000), ("100", 200, 0)],
)
def test_the_least_counts(tmp_path: Path, limit: str, used: int, free: int) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal:  9000 kB\nMemAvailable:   2000 kB\n")
    assert free_memory(tmp_path) == 2_048_000
    group = tmp_path / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (group / "memory.max").write_text(f"{limit}\n")
    (group / "memory.current").write_text(f"{used}\n")
    assert free_memory(tmp_path) == free


def test_elsewhere_it_cannot_be_told(tmp_path: Path) -> None:
    assert free_memory(tmp_path) is None
