"""The share of the machine that a process has: what runs on it counts that, not the machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from accrete_kit import cores, dependencies

MOUNT = "30 20 0:26 {root} {mount} rw,nosuid - {kind} cgroup rw,{options}\n"


def process(folder: Path, groups: str, kind: str, options: str = "", root: str = "/") -> Path:
    """A folder as /proc has one, of a process in `groups`, whose hierarchy is mounted at `folder`/mount."""
    (folder / "self").mkdir()
    (folder / "self" / "cgroup").write_text(groups)
    mount = str(folder / "mount").replace(" ", "\\040")
    (folder / "self" / "mountinfo").write_text(MOUNT.format(root=root, mount=mount, kind=kind, options=options))
    return folder / "self"


def limits(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / f"cpu.{name}").write_text(text)


@pytest.mark.parametrize(
    ("quota", "expected", "threads"),
    [("50000 100000\n", 0.5, 1), ("100000 100000\n", 1.0, 1), ("25000 50000\n", 0.5, 1), ("max 100000\n", None, None)],
)
def test_the_quota_of_a_group_counts(tmp_path: Path, quota: str, expected: float | None, threads: int | None):
    limits(tmp_path / "mount" / "a" / "b", max=quota)
    here = process(tmp_path, "0::/a/b\n", "cgroup2")
    everything = len(os.sched_getaffinity(0))
    assert cores.available(here) == (expected or everything)
    assert cores.whole(here) == (threads or everything)


def test_the_quota_of_a_group_above_counts(tmp_path: Path):
    limits(tmp_path / "mount" / "a" / "b", max="max 100000\n")
    limits(tmp_path / "mount" / "a", max="20000 100000\n")
    assert cores.available(process(tmp_path, "0::/a/b\n", "cgroup2")) == 0.2


@pytest.mark.parametrize("groups", ["0::/\n", "0::/docker/abc\n", "0::/../outside\n"])
def test_a_container_sees_its_group_at_the_mount(tmp_path: Path, groups: str):
    limits(tmp_path / "mount", max="30000 100000\n")
    assert cores.available(process(tmp_path, groups, "cgroup2", root="/docker/abc")) == 0.3


def test_the_quota_of_the_first_version_counts(tmp_path: Path):
    folder = tmp_path / "with space"
    limits(folder / "mount" / "a", cfs_quota_us="50000\n", cfs_period_us="100000\n")
    limits(folder / "mount", cfs_quota_us="-1\n", cfs_period_us="100000\n")
    here = process(folder, "4:cpu,cpuacct:/a\n3:memory:/b\n0::/\n", "cgroup", "cpu,cpuacct")
    assert cores.available(here) == 0.5


@pytest.mark.parametrize("quota", ["", "nonsense", "1", "100000 0"])
def test_what_cannot_be_read_is_no_limit(tmp_path: Path, quota: str):
    limits(tmp_path / "mount", max=quota)
    assert cores.available(process(tmp_path, "0::/\n", "cgroup2")) == len(os.sched_getaffinity(0))
    assert cores.available(tmp_path / "nothing") == len(os.sched_getaffinity(0))


def test_the_cores_that_a_process_may_run_on_count():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert cores.whole() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_calls_at_once_and_threads_of_training_are_of_the_share(monkeypatch: pytest.MonkeyPatch):
    from accrete_learner.training.precision import resolve_threads
    from accrete_server.config import ServerConfig

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for share, calls, threads in ((0.5, 1, 1), (6.5, 3, 6)):
        monkeypatch.setattr(cores, "available", lambda process=None, share=share: share)
        assert ServerConfig().at_once(2) == calls
        assert resolve_threads(0) == threads
    assert ServerConfig(concurrency=7).at_once(2) == 7
    assert resolve_threads(3) == 3
    for told, threads in (("2", 2), ("100", 6), ("", 6), ("0", 6), ("many", 6)):
        monkeypatch.setenv("OMP_NUM_THREADS", told)
        assert resolve_threads(0) == threads
        assert resolve_threads(3) == 3


@pytest.mark.parametrize(("share", "threads"), [(0.5, "1"), (1000.0, None)])
def test_libraries_compute_on_the_share_alone(monkeypatch: pytest.MonkeyPatch, share: float, threads: str | None):
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "")  # what is set below is then taken back
        monkeypatch.delenv(name)
    monkeypatch.setattr(cores, "available", lambda process=None: share)
    dependencies.limit_threads()
    assert os.environ.get("OMP_NUM_THREADS") == threads
